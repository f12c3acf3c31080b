"""From findings to what may be shown: clusters, edits, and where a channel is cut off.

Findings below the policy's score, or that it allows, are nothing. Those it reports are only listed. Those it masks or
blocks form clusters where they overlap, and a cluster has one outcome: block if one of its findings says so, else one
mask over all of it, labelled for the finding with the highest score, then the longest, then the first by name. Order of
arrival plays no part (L3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from filters.finding import Action, Edit, Finding, Release, Rules, UndecidedError

# A chain of overlapping findings is one cluster up to this length, so that a hold is bounded (L9); the next finding of
# the chain then starts a cluster of its own where this one ends. Our choice: four half windows of a token.
CLUSTER_CHARS_MAX: Final = 2048


@dataclass(slots=True)
class _Cluster:
    start: int
    end: int
    members: list[Finding]
    block: bool


def _rank(finding: Finding) -> tuple[float, int, str]:
    return (-finding.score, finding.start - finding.end, finding.entity)


def _order(finding: Finding) -> tuple[int, int, str, float]:
    return (finding.end, finding.start, finding.entity, finding.score)


class Resolver:
    """Applies one policy's rules to one channel, whose text comes in stretches. Offsets are those of the channel."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._waiting: list[Finding] = []  # masked and blocked ones that are not released
        self._reports: list[Finding] = []
        self.blocked: Finding | None = None

    def fork(self) -> Resolver:
        """Another one for the same channel, which knows what this one knows."""
        other = Resolver(self._rules)
        other._waiting = list(self._waiting)
        other._reports = list(self._reports)
        other.blocked = self.blocked
        return other

    def add(self, found: list[Finding]) -> None:
        """Takes findings, which all end after what was released."""
        for finding in found:
            if finding.score < self._rules.min_score:
                continue
            action = self._rules.action(finding.entity)
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
        for cluster in self._clusters(start):
            if cluster.end > final:
                end = min(end, cluster.start)
                later += cluster.members
            elif cluster.block:
                end = cluster.start
                blocking = [m for m in cluster.members if self._rules.action(m.entity) is Action.BLOCK]
                self.blocked = min(blocking, key=_rank)
                shown += cluster.members
                break
            else:
                label = min(cluster.members, key=_rank).entity
                edits.append(Edit(cluster.start, cluster.end, f"<{label}>"))
                shown += cluster.members
        self._waiting = later
        shown += [f for f in self._reports if f.end <= end]
        self._reports = [f for f in self._reports if f.end > end]
        shown.sort(key=_order)
        return Release(start, end, _edited(text, base, start, end, edits), tuple(edits), tuple(shown), self.blocked)

    def _clusters(self, released: int) -> list[_Cluster]:
        self._waiting.sort(key=lambda f: (f.start, f.end, f.entity, f.score))
        clusters: list[_Cluster] = []
        for finding in self._waiting:
            block = self._rules.action(finding.entity) is Action.BLOCK
            last = clusters[-1] if clusters else None
            if last is None or finding.start >= last.end:
                # Only what a chain left behind starts before: its head is shown as the mask of the cluster before it.
                clusters.append(_Cluster(max(finding.start, released), finding.end, [finding], block))
            elif finding.end <= last.end or finding.end - last.start <= CLUSTER_CHARS_MAX:
                last.end = max(last.end, finding.end)
                last.members.append(finding)
                last.block |= block
            elif block and not last.block:
                raise UndecidedError("overlapping findings form a chain that is too long to decide", limit=True)
            else:
                clusters.append(_Cluster(last.end, finding.end, [finding], block))
        return clusters


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
