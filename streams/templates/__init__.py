"""Words for people: a delivery and its templates become a title, a body, a subject, HTML.

Rendering happens at send time, outside the decision core, because words never change a decision.
``catalogue.py`` finds the template, ``render.py`` runs it, ``fit.py`` and ``segments.py`` make the
result fit what a channel can carry.
"""
