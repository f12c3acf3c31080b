"""Keys, tokens, passwords, connection strings and private keys: the secrets pack.

What lives here: `compile.py` turns the rules of gitleaks into `gitleaks.json`, `rules.py` reads them, `tokens.py` looks at
single tokens, `assignments.py` at `name = value`, `sentences.py` at what is said ("my password is ..."), `blocks.py` at
private keys over many lines, `values.py` tells secrets from words and placeholders, and `pack.py` joins them.

Expressions run on bounded windows only, behind a literal or a name that has to be there.
"""

from __future__ import annotations

from filters.detectors.secrets.pack import SecretsPack
from filters.detectors.secrets.rules import rule_of

__all__ = ["SecretsPack", "rule_of"]
