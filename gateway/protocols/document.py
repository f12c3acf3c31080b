"""A body with its channels, and its rewriting by splices: bytes outside an edit are the bytes that came in (L5)."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

from gateway.protocols.base import Channel, Edit, EditLike, Role
from gateway.protocols.jsontext import STRING, Node, apply, locate, merged, place_of, quote, splice_string
from gateway.protocols.surfaces import Nested, Strings, Walk, Within, nested_walk

Edits = Mapping[str, Sequence[EditLike]]


class EditError(ValueError):
    """Edits that the document cannot carry: to a FIXED channel, or to one that it does not have."""


class JsonBody:
    """A request or answer body. Built by an adapter from what its tables found."""

    __slots__ = ("_body", "_model", "_root", "_text", "_walk")

    def __init__(self, body: bytes, text: str, root: Node, walk: Walk) -> None:
        self._body = body
        self._text = text
        self._walk = walk
        self._root = root

    @property
    def channels(self) -> Sequence[Channel]:
        """All places of the body where text can hide."""
        return self._walk.channels

    def rewrite(self, edits: Edits, *, model: str | None = None) -> bytes:
        """The body with edits by channel key and, if given, the model's name replaced.

        Logprobs that repeat an edited text become null, and so do those that cannot be judged, edits or not.
        Raises EditError for a key that is FIXED or unknown.
        """
        walk = self._walk
        if walk.forced or any(edits.values()):
            locate(self._text, self._root)
        splices = edits_on_text(walk, self._text, edits)
        splices += [Edit(node.start, node.end, "null") for node in walk.forced]
        if edits and walk.nulls:
            groups = {channel.group for channel in walk.channels if edits.get(channel.key)}
            splices += [Edit(node.start, node.end, "null") for group, node in walk.nulls if group in groups]
        named = self._root.get("model") if model is not None else None
        if model is not None and named is not None and named.kind == STRING and named.value != model:
            place = place_of(self._text, "model")
            assert place is not None
            splices = [e for e in splices if not place[0] <= e.start < place[1]]
            splices.append(Edit(*place, f'"{quote(model)}"'))
        return apply(self._text, splices).encode() if splices else self._body


class JsonString:
    """The text of a string that should hold JSON, such as the arguments of a tool call once they are complete."""

    __slots__ = ("_role", "_text", "_walk")

    def __init__(self, text: str, role: Role = Role.ASSISTANT) -> None:
        self._text = text
        self._role = role
        self._walk = nested_walk(text, "/", role, 1)

    @property
    def channels(self) -> Sequence[Channel]:
        """The values, numbers and keys inside; the whole text as one channel if it is no JSON object or array."""
        if self._walk is None:
            return [Channel("", self._role, self._text)] if self._text else []
        return self._walk.channels

    def edits(self, edits: Edits) -> list[Edit]:
        """The same edits on the text itself, escaped so that JSON stays JSON; in order. Raises EditError as above."""
        if self._walk is None:
            return [Edit(e.start, e.end, e.text) for e in edits.get("", ())]
        assert self._walk.root is not None
        locate(self._text, self._walk.root)
        return sorted(edits_on_text(self._walk, self._text, edits), key=lambda e: (e.start, e.end))


def json_document(text: str, role: Role = Role.ASSISTANT) -> JsonString:
    """What to judge in a `whole` channel of a stream once it has closed, and how to edit it."""
    return JsonString(text, role)


def edits_on_text(walk: Walk, text: str, edits: Edits) -> list[Edit]:
    """Edits by channel as edits on the document's text, each string's value escaped. In no particular order."""
    strings: dict[int, tuple[Node, list[EditLike]]] = {}
    nested: dict[int, tuple[Nested, dict[str, Sequence[EditLike]]]] = {}
    for key, wanted in _on_whole(walk, edits).items():
        if not wanted:
            continue
        target = walk.targets.get(key)
        if isinstance(target, tuple):
            for edit in wanted:
                for node, part in _distribute(target, edit):
                    strings.setdefault(id(node), (node, []))[1].append(part)
        elif isinstance(target, Nested):
            nested.setdefault(id(target.node), (target, {}))[1][key] = wanted
        else:
            raise EditError(f"channel {key!r} " + ("cannot be edited" if key in walk.targets else "does not exist"))
    for target, inside in nested.values():
        assert target.inner.root is not None
        locate(target.inner.text_of, target.inner.root)
        inner = edits_on_text(target.inner, target.inner.text_of, inside)
        strings.setdefault(id(target.node), (target.node, []))[1].extend(inner)
    return [splice for node, parts in strings.values() for splice in splice_string(text, node, parts)]


def _on_whole(walk: Walk, edits: Edits) -> Edits:
    """Edits on stretches of a text as edits on that text, those that overlap as one."""
    whole: dict[str, list[EditLike]] = {}
    for key, wanted in edits.items():
        target = walk.targets.get(key)
        if wanted and isinstance(target, Within):
            at = target.offset
            moved = whole.setdefault(target.key, list(edits.get(target.key, ())))
            moved += [Edit(edit.start + at, edit.end + at, edit.text) for edit in wanted]
    if not whole:
        return edits
    rest = {key: wanted for key, wanted in edits.items() if not isinstance(walk.targets.get(key), Within)}
    return rest | {key: merged(wanted) for key, wanted in whole.items()}


def _distribute(target: Strings, edit: EditLike) -> list[tuple[Node, Edit]]:
    """An edit of a joined channel: the replacement goes where it begins, the rest of the span is removed.

    Starts at the string in which the edit begins: a channel may join 100,000 strings and have an edit in each.
    """
    if len(target) == 1:
        return [(target[0][0], Edit(edit.start, edit.end, edit.text))]
    result: list[tuple[Node, Edit]] = []
    text = edit.text
    first = max(0, bisect.bisect_left(target, edit.start, key=_offset) - 1)
    for node, offset in itertools.islice(target, first, None):
        if offset > edit.end:
            break
        length = len(node.value)
        start = max(edit.start - offset, 0)
        end = min(edit.end - offset, length)
        if start < end or (edit.start == edit.end and start == end and not result):
            result.append((node, Edit(start, end, text)))
            text = ""
    return result


def _offset(part: tuple[Node, int]) -> int:
    return part[1]
