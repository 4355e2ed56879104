"""Avro on the wire: the contracts, the framings, and functions generated from schemas.

``contracts`` loads the schemas and knows their headers, ``primitives`` reads and writes numbers
and bounds, ``reader`` and ``writer`` compile a schema into a function, ``writers`` knows who may
have written a value, ``checked`` encodes what people hand in. ``streams/codec.py`` is their only
user; everybody else uses the codec.
"""
