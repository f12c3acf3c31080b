"""How well the hardened engine finds what it should, and how rarely it finds what it should not.

The sets are written from standards and from how people write, never from the detectors: nothing here imports a
checksum, a pattern or a word list of the product. Each set is seeded, so two runs judge the same texts.

    python -m tests.quality                     all sets, as tables
    python -m tests.quality --set chinese --show 10
"""
