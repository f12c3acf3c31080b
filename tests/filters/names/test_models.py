"""Re-quantising is a pure function, and decoding finds the best path."""

from __future__ import annotations

import hashlib
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.names import available
from filters.names.models import RAMPART_BUILT, RAMPART_SOURCE, SPACY_FILES, checked


def test_decoding_gives_the_best_path_though_it_searches_little() -> None:
    from filters.names.lac import decode, search

    rng = np.random.default_rng(59)
    for _ in range(200):
        size, tags = int(rng.integers(1, 60)), 59
        transitions = rng.uniform(-0.2, 0.2, (tags, tags)).astype(np.float32)
        emissions = (rng.normal(size=(size, tags)) * rng.choice([0.3, 1.0, 5.0])).astype(np.float32)
        assert decode(emissions, transitions) == search(emissions, transitions)


def worth(path: tuple[int, ...], emissions: NDArray[np.float32], transitions: NDArray[np.float32]) -> float:
    total = sum(float(emissions[at, tag]) for at, tag in enumerate(path))
    return total + sum(float(transitions[a, b]) for a, b in pairwise(path))


def test_searching_gives_the_path_that_trying_all_would_give() -> None:
    from filters.names.lac import search

    rng = np.random.default_rng(3)
    for _ in range(50):
        transitions, emissions = rng.random((3, 3), np.float32), rng.random((5, 3), np.float32)
        paths = list(product(range(3), repeat=5))
        best = max(range(len(paths)), key=[worth(p, emissions, transitions) for p in paths].__getitem__)
        assert search(emissions, transitions) == list(paths[best])


@pytest.mark.skipif(available("fast") is not None, reason=f"no models: {available('fast')}")
def test_l10_building_twice_gives_the_pinned_file() -> None:
    pytest.importorskip("onnx")
    from filters.names.build import rebuilt

    source = checked(RAMPART_SOURCE)
    assert hashlib.sha256(rebuilt(source)).hexdigest() == RAMPART_BUILT.sha256
    assert hashlib.sha256(rebuilt(source)).hexdigest() == RAMPART_BUILT.sha256


@pytest.mark.skipif(available("fast") is not None, reason=f"no models: {available('fast')}")
def test_8_bits_say_what_4_bits_said() -> None:
    """The built network and the shipped one agree about nearly every word."""
    from tokenizers import Tokenizer

    from filters.names.models import RAMPART_TOKENIZER
    from filters.names.runtime import session
    from tests.quality.names import natural

    tokenizer = Tokenizer.from_str(checked(RAMPART_TOKENIZER).decode("utf-8"))
    shipped, built = session(checked(RAMPART_SOURCE)), session(checked(RAMPART_BUILT))
    same = every = 0
    for sample in natural("news")[:20]:
        ids = np.array([tokenizer.encode(sample.text).ids], np.int64)
        whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        one = shipped.run(None, whole)[0][0].argmax(-1)
        two = built.run(None, {"input_ids": ids})[0][0].argmax(-1)
        same, every = same + int((one == two).sum()), every + ids.size
    assert same >= 0.98 * every


def test_every_file_of_spacy_is_pinned_once() -> None:
    assert len({file.name for file in SPACY_FILES}) == len(SPACY_FILES)
    assert all(len(file.sha256) == 64 for file in SPACY_FILES)
