"""The pages for people: what is going on, and why somebody did, or did not, get something.

Mounted on every ledger worker; any of them answers for the whole system. ``page.py`` says what a
page is, ``frame.py`` is what every request passes, the other modules are one page each.
"""
