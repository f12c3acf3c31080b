"""Licet, the gateway: the edge, the order of events, and every room that is not pure text or pure policy.

`pipeline.py` is the one place where a call's order is decided; `app.py` is the one place that knows every room.
"""

__version__ = "0.1.0"
