"""The issuer's side: applications, decisions, licenses, orders, enrolled gateways, and what is published of them.

Order of things: somebody applies, an officer looks whether all is there, assessors attach what they found, approvers
decide, the license is issued and published, and stays under watch until it ends. `states.py` holds the one table of what
may follow what; every step is one transaction that changes the state and appends a signed entry to the log, or nothing.

This room knows the license record and the hash tree of the audit room. No gateway process imports it: gateways learn
from an authority only what it publishes.
"""
