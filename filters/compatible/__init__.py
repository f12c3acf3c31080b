"""Presidio-compatible findings: the recognizers of presidio-analyzer 2.2.366 for English as data, and those a user adds.

Nothing of presidio or spaCy is imported while texts are judged. Data is written by build.py; texts are brought into a
canonical form (data.py), matched (scan.py, hosts.py, phones.py, checks.py), and scored by context (context.py,
english.py). Recognizers of a user are expressions (custom.py) or classes in processes of their own (classes.py).
"""

from filters.compatible.engine import CompatibleEngine, Explained

__all__ = ["CompatibleEngine", "Explained"]
