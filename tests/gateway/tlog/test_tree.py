"""The tree against published vectors and against the definition, written out naively."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tlog import tree

# Leaves and roots of the reference implementation's test suite (google/certificate-transparency, merkle_tree_test).
LEAVES = [
    bytes.fromhex(h)
    for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


class Leaves:
    """A HashReader that computes every hash from the leaves."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    def hash_at(self, level: int, index: int) -> bytes:
        """The definition, over the leaves below that node."""
        below = self.leaves[index << level : (index + 1) << level]
        assert len(below) == 1 << level, "only complete subtrees may be asked for"
        return naive_root(below)


def frontier_of(leaves: list[bytes]) -> list[bytes]:
    """Pushed one by one."""
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        tree.push(frontier, size, tree.leaf_hash(leaf))
    return frontier


@pytest.mark.parametrize("size", range(9))
def test_roots_of_published_vectors(size: int) -> None:
    assert tree.root(frontier_of(LEAVES[:size])).hex() == ROOTS[size]


def test_inclusion_proof_of_published_vector() -> None:
    proof = tree.inclusion_proof(0, 8, Leaves(LEAVES))
    assert [h.hex() for h in proof] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_frontier_gives_the_naive_root(leaves: list[bytes]) -> None:
    frontier = frontier_of(leaves)
    assert tree.root(frontier) == naive_root(leaves)
    assert len(frontier) == len(leaves).bit_count()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 33])
def test_every_leaf_is_proved_and_no_other(size: int) -> None:
    leaves = [bytes([i]) for i in range(size)]
    root, reader = naive_root(leaves), Leaves(leaves)
    for index in range(size):
        leaf, proof = tree.leaf_hash(leaves[index]), tree.inclusion_proof(index, size, reader)
        assert tree.verify_inclusion(leaf, index, size, proof, root)
        assert not tree.verify_inclusion(tree.leaf_hash(b"other"), index, size, proof, root)
        assert not tree.verify_inclusion(leaf, index, size, [*proof, root], root)
        assert not tree.verify_inclusion(leaf, index, size + 1, [], root)
        for at in range(len(proof)):
            assert not tree.verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root)
        for other in range(size):
            if other != index:
                assert not tree.verify_inclusion(leaf, other, size, proof, root)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 40))
def test_growth_is_proved_and_a_fork_is_not(old: int, more: int) -> None:
    leaves = [bytes([i]) for i in range(old + more)]
    new = len(leaves)
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    proof = tree.consistency_proof(old, new, Leaves(leaves))
    assert tree.verify_consistency(old, new, old_root, new_root, proof)
    forked_root = naive_root([b"forked", *leaves[1:old]])
    assert not tree.verify_consistency(old, new, forked_root, new_root, proof)
    if more:
        assert not tree.verify_consistency(old, new, old_root, old_root, proof)
        assert not tree.verify_consistency(old, new, old_root, new_root, [])
        assert not tree.verify_consistency(old, new, old_root, new_root, [*proof, new_root])


def test_proofs_out_of_range_are_errors() -> None:
    reader = Leaves(LEAVES)
    for index, size in ((-1, 8), (8, 8), (0, 0)):
        with pytest.raises(ValueError, match="not in a tree"):
            tree.inclusion_proof(index, size, reader)
    for old, new in ((0, 8), (9, 8)):
        with pytest.raises(ValueError, match="no proof"):
            tree.consistency_proof(old, new, reader)
    assert not tree.verify_inclusion(tree.leaf_hash(b""), 8, 8, [], tree.EMPTY_ROOT)
    assert not tree.verify_consistency(0, 8, tree.EMPTY_ROOT, tree.EMPTY_ROOT, [])
