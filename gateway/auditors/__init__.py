"""The auditor's room: what may be read from outside of this gateway's sealed log, and who reads it. Every look is recorded first.

`door.py` is the ASGI side (who asks, how often, the record of the look), `paths.py` what can be asked, `answers.py` the reading. Nothing here
holds a private key or changes anything: heads, tiles and proofs are what the sealer wrote, and only sealed records are shown.
"""

from gateway.auditors.door import AuditDoor
from gateway.auditors.paths import PREFIX, TOPIC

__all__ = ["PREFIX", "TOPIC", "AuditDoor"]
