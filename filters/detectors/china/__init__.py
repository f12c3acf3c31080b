"""Identifiers of mainland China, Hong Kong, Macau and Taiwan.

`pack.py` is the pack: what stands in a token (tokens.py) or a run of digits (numbers.py), and scanners for what needs
Chinese characters to be seen: plates and identity cards of Hong Kong (plates.py), accounts and dates that a word names
(said.py), addresses (addresses.py). Sums and formats are in validators.py, the words that name a number in labels.py,
and what is known of places, area codes and banks in china.json (data.py).

A form with a check digit that can hardly be met by chance is certain. A form without one stays below 0.4, the score
from which findings count unless a policy says otherwise, until a word to its left names it.
"""
