"""How what authorities say reaches this gateway: files of its own, or a repository that is followed.

A `Source` brings the raw files (`Material`): `FileSource` from the disk, `TufSource` from a TUF repository over HTTP or
in a folder. A `Follower` asks its source again and again, keeps the last good set when the source fails, and tells what
happened. Nothing here decides what a token means: signatures of tokens, freshness and effect are the license room's.
`tuf` and what it needs are loaded only where a repository is followed.
"""

from __future__ import annotations

from gateway.trust.follower import Follower, FollowerStatus
from gateway.trust.source import Fault, Source, SourceFacts, TrustError, TrustOptions, open_source

__all__ = ["Fault", "Follower", "FollowerStatus", "Source", "SourceFacts", "TrustError", "TrustOptions", "open_source"]
