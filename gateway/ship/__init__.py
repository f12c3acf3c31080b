"""The shipping room: brings sealed records to other places, in a process of its own.

Reads sealed data only (`gateway.audit.sealed`). Each place (`port.Sink`) has its own cursor, is tried again for ever with growing pauses, and
is never believed more than it says: what it has not taken stays here.
"""
