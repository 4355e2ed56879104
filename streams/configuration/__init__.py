"""From ``flowstate.toml`` to frozen settings: ``streams/settings.py`` is the way in.

``document`` reads the file, the environment and the command line and knows their lines; ``shape``
makes validation models of the settings structs that the packages define; ``problems`` says what
is wrong in words for people; ``catalogue`` checks what the categories say; ``quantities`` reads
durations and sizes.
"""
