"""From findings to what may be shown: clusters, edits, and where a channel is cut off.

Findings below the policy's score, or that it allows, are nothing. Those it reports are only listed. Those it masks or
blocks form clusters where they overlap, and a cluster has one outcome: block if one of its findings says so, else one
mask over all of it, labelled for the finding with the highest score, then the longest, then the first by name. Order of
arrival plays no part (L3).

A mask is shown as the policy says; an entity that is pseudonymized is named by the conversation's `Namer`. In answers a
pseudonym is replaced by the caller's own value. What else is found inside a pseudonym is a finding in our own words and
counts for nothing; where a finding reaches over its border, the finding decides.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Final

from filters.finding import (
    LABEL,
    PSEUDONYM,
    Action,
    Edit,
    Finding,
    Namer,
    Release,
    Restoring,
    Rules,
    UndecidedError,
)

# A chain of overlapping findings is one cluster up to this length, so that a hold is bounded (L9); the next finding of
# the chain then starts a cluster of its own where this one ends. Our choice: four half windows of a token.
CLUSTER_CHARS_MAX: Final = 2048


@dataclass(slots=True)
class _Cluster:
    start: int
    end: int
    members: list[Finding]
    block: bool
    restored: list[Finding]  # pseudonyms


def _rank(finding: Finding) -> tuple[float, int, str]:
    return (-finding.score, finding.start - finding.end, finding.entity)


def _order(finding: Finding) -> tuple[int, int, str, float]:
    return (finding.end, finding.start, finding.entity, finding.score)


class Resolver:
    """Applies one policy's rules to one channel, whose text comes in stretches. Offsets are those of the channel."""

    def __init__(self, rules: Rules, namer: Namer | None = None, restoring: Restoring | None = None) -> None:
        """`namer` is needed where the rules pseudonymize, `restoring` where findings may be PSEUDONYM."""
        self._rules = rules
        self._namer = namer
        self._restoring = restoring
        self._waiting: list[Finding] = []  # those that change or cut the text, and are not released
        self._reports: list[Finding] = []
        self.blocked: Finding | None = None

    def fork(self) -> Resolver:
        """Another one for the same channel, which knows what this one knows."""
        other = Resolver(self._rules, self._namer, self._restoring)
        other._waiting = list(self._waiting)
        other._reports = list(self._reports)
        other.blocked = self.blocked
        return other

    @property
    def idle(self) -> bool:
        """Whether no finding waits for its release."""
        return not self._waiting and not self._reports

    def add(self, found: list[Finding]) -> None:
        """Takes findings, which all end after what was released."""
        rules = self._rules
        for finding in found:
            entity = finding.entity
            if entity == PSEUDONYM:
                self._waiting.append(finding)
                continue
            if not rules.counts(finding):
                continue
            action = rules.action(entity)
            if action is Action.ALLOW:
                continue
            if action is Action.REPORT:
                self._reports.append(finding)
            else:
                self._waiting.append(finding)

    def release(self, text: str, base: int, start: int, final: int) -> Release:
        """Releases from `start` as far as possible, at most to `final`: no finding that starts before it is still to come.

        `text` is the channel from offset `base` on.
        """
        if not self._waiting and not self._reports:
            return Release(start, final, text[start - base : final - base])
        end = final
        edits: list[Edit] = []
        shown: list[Finding] = []
        later: list[Finding] = []
        own: list[Finding] = []  # pseudonyms: reports inside them are findings in our own words
        for cluster in self._clusters(start):
            own += cluster.restored
            if cluster.end > final:
                end = min(end, cluster.start)
                later += cluster.members
                later += cluster.restored
                continue
            if cluster.restored:
                self._restore(cluster, text, base, edits)
            if not cluster.members:
                continue
            if cluster.block:
                end = cluster.start
                blocking = [m for m in cluster.members if self._rules.action(m.entity) is Action.BLOCK]
                self.blocked = min(blocking, key=_rank)
                shown += cluster.members
                break
            edits.append(self._edit(cluster, text, base))
            shown += cluster.members
        self._waiting = later
        if self._reports:
            reports = self._reports
            if own:
                starts = [f.start for f in own]
                reports = [f for f in reports if not _inside(f, own, starts)]
            shown += [f for f in reports if f.end <= end]
            self._reports = [f for f in reports if f.end > end]
        shown.sort(key=_order)
        return Release(start, end, _edited(text, base, start, end, edits), tuple(edits), tuple(shown), self.blocked)

    def _edit(self, cluster: _Cluster, text: str, base: int) -> Edit:
        """What stands for a cluster: a mask if one of its members asks for one, else the pseudonym of its first in rank."""
        rules = self._rules
        masked = [m for m in cluster.members if rules.action(m.entity) is Action.MASK]
        entity = min(masked or cluster.members, key=_rank).entity
        value = text[cluster.start - base : cluster.end - base]
        if masked:
            shown = rules.masks.get(entity, LABEL).show(entity, value) if rules.masks else f"<{entity}>"
        elif self._namer is None:
            raise UndecidedError("no pseudonyms are kept for this text")
        else:
            shown = self._namer.name(entity, value, restorable=rules.restorable)
        return Edit(cluster.start, cluster.end, shown)

    def _restore(self, cluster: _Cluster, text: str, base: int, edits: list[Edit]) -> None:
        """Replaces the pseudonyms of a cluster that holds nothing else by what they stand for."""
        if cluster.members:
            return
        assert self._restoring is not None
        at = cluster.start
        for one in sorted(cluster.restored, key=lambda f: (f.start, -f.end)):
            if one.start < at:
                continue
            value = self._restoring.restore(text[one.start - base : one.end - base])
            if value is not None:
                edits.append(Edit(one.start, one.end, value))
                at = one.end

    def _clusters(self, released: int) -> list[_Cluster]:
        self._waiting.sort(key=lambda f: (f.start, f.end, f.entity, f.score))
        pseudonyms = [f for f in self._waiting if f.entity == PSEUDONYM] if self._restoring is not None else []
        starts = [f.start for f in pseudonyms]
        clusters: list[_Cluster] = []
        for finding in self._waiting:
            own = finding.entity == PSEUDONYM
            if not own and starts and _inside(finding, pseudonyms, starts):
                continue
            block = not own and self._rules.action(finding.entity) is Action.BLOCK
            last = clusters[-1] if clusters else None
            if last is None or finding.start >= last.end:
                # Only what a chain left behind starts before: its head is shown as the mask of the cluster before it.
                last = _Cluster(max(finding.start, released), finding.end, [], block, [])
                clusters.append(last)
            elif finding.end <= last.end or finding.end - last.start <= CLUSTER_CHARS_MAX:
                last.end = max(last.end, finding.end)
                last.block |= block
            elif block and not last.block:
                raise UndecidedError("overlapping findings form a chain that is too long to decide", limit=True)
            else:
                last = _Cluster(last.end, finding.end, [], block, [])
                clusters.append(last)
            (last.restored if own else last.members).append(finding)
        return clusters


def _inside(finding: Finding, pseudonyms: list[Finding], starts: list[int]) -> bool:
    """Whether a finding lies in a pseudonym; these are in order and do not overlap."""
    at = bisect.bisect_right(starts, finding.start) - 1
    return at >= 0 and finding.end <= pseudonyms[at].end


def _edited(text: str, base: int, start: int, end: int, edits: list[Edit]) -> str:
    if not edits:
        return text[start - base : end - base]
    pieces: list[str] = []
    at = start
    for edit in edits:
        pieces += (text[at - base : edit.start - base], edit.text)
        at = edit.end
    pieces.append(text[at - base : end - base])
    return "".join(pieces)


def merge(first: Release, second: Release) -> Release:
    """Two releases that follow each other, as one."""
    return Release(
        first.start,
        second.end,
        first.text + second.text,
        first.edits + second.edits,
        first.findings + second.findings,
        second.blocked,
    )
