"""From a revocation to the last byte that was allowed: `python -m tests.bench.revocation` prints a table.

Two hosts with 4 and 2 workers follow one authority (refresh_s: 5) while callers ask for quick answers, answers that the
endpoint holds, and long streams. In each trial one license is revoked at the authority's service, or an order is given.
"published" is when the metadata that names the new list was written, a little before anyone can find it; what follows it
is what the network, Redis and the workers take. Times of workers are those of their journals; those of callers, theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.audit.effect import Report
from gateway.license.standing import NO_STANDING, GatewayFacts, stand
from gateway.license.trust import load_trust
from gateway.trust.source import TrustOptions, open_source
from tests.bench.meters import cpu_s
from tests.e2e.fleet import REFRESH_S, Fleet, Load, Out

WITH_REDIS_S = 2.0  # what is promised from publication to the last allowed byte
# Without Redis: what the settings say, and what one look at the repository takes.
WITHOUT_REDIS_S = REFRESH_S
IDLE_S = 20.0
LOOKS = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial showed. Times are ms after the publication."""

    variant: str
    workers: int
    calls: int  # of the model that was stopped
    iat_ms: float  # the signed time, in whole seconds, and so mostly before it
    last_byte_ms: float  # over all callers
    first_refusing_ms: float
    last_refusing_ms: float
    cut: int  # streams
    withheld: int  # whole answers that the endpoint had been asked for
    between: int  # calls allowed between the signed time and the effect in their worker
    after: int  # calls allowed after it; must be 0
    bound_ms: float

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return self.after == 0 and self.last_byte_ms <= self.bound_ms


def trial(fleet: Fleet, variant: str) -> Trial:
    """Stop one model's calls, and wait until every worker has heard of it."""
    model = fleet.model()
    load = Load(fleet, model)
    if variant == "redis down":
        fleet.redis.stop()
        time.sleep(1.5)  # the workers have noticed by then
    order = f"order-{model}" if variant == "order" else None
    try:
        with load.running():
            if order is not None:
                fleet.ask("order", scope="model", models=[model], ref=order, reason="a trial")
            else:
                fleet.end("revoke", model)
            if variant == "redis killed":
                fleet.redis.stop()
            out = fleet.out(order=order) if order is not None else fleet.out(model)
            fleet.heard(None if order else model, order)
            time.sleep(1.0)  # what was on its way may arrive
    finally:
        if fleet.redis.process is None:
            fleet.redis.start()
            time.sleep(2.0)  # and be found again
    report = fleet.effect(None if order else model, order)
    bound_s = WITH_REDIS_S if variant in ("redis up", "order") else WITHOUT_REDIS_S
    return shown(variant, fleet, load, report, out, bound_s)


def shown(variant: str, fleet: Fleet, load: Load, report: Report, out: Out, bound_s: float) -> Trial:
    """The figures of one trial."""
    refusing = [effect.effective_ms - out.written_s * 1e3 for effect in report.effects if effect.effective_ms]
    return Trial(
        variant=variant,
        workers=fleet.workers,
        calls=len(load.calls),
        iat_ms=(out.iat - out.written_s) * 1e3,
        last_byte_ms=(load.last_allowed_s() - out.written_s) * 1e3,
        first_refusing_ms=min(refusing),
        last_refusing_ms=max(refusing),
        cut=len(load.cut()),
        withheld=len(load.withheld()),
        between=sum(effect.between for effect in report.effects),
        after=report.allowed_after,
        bound_ms=bound_s * 1e3,
    )


VARIANTS = ("redis up", "redis down", "redis killed", "order")


def look_costs(fleet: Fleet, folder: Path) -> dict[str, float]:
    """CPU of one look at the repository by one worker, in this process: when there is nothing new, and when there is."""
    options = TrustOptions(
        cache=folder / "looker",
        tuf=f"{fleet.service}/tuf",
        root=fleet.folder / "root.json",
        licenses=tuple(fleet.licenses.values()),
    )
    source = open_source(options)
    standing, version = NO_STANDING, ""
    spent: dict[bool, list[float]] = {True: [], False: []}
    while min(len(one) for one in spent.values()) < LOOKS:
        begun = time.thread_time()
        material = source.fetch()
        new = material.version != version
        if new:
            assert material.keys is not None
            trust = load_trust(material.keys, source="keys.json")
            standing, _ = stand(material, standing, now_s=time.time(), gateway=GatewayFacts(), trust=trust)
        spent[new].append(time.thread_time() - begun)
        version = material.version
        time.sleep(0.2)
    return {"new": max(spent[True][1:]) * 1e3, "same": max(spent[False]) * 1e3}


def idle_cost(fleet: Fleet) -> float:
    """Share of a core that one idle worker takes, looks included."""
    pids = [host.worker_pid(index) for host in fleet.hosts for index in range(host.workers)]
    begun, used = time.monotonic(), cpu_s(pids)
    time.sleep(IDLE_S)
    return (cpu_s(pids) - used) / (time.monotonic() - begun) / len(pids)


COLUMNS: tuple[tuple[str, Callable[[Trial], str]], ...] = (
    ("variant", lambda t: t.variant),
    ("workers", lambda t: str(t.workers)),
    ("calls", lambda t: str(t.calls)),
    ("iat", lambda t: f"{t.iat_ms:,.0f}"),
    ("first refusing", lambda t: f"{t.first_refusing_ms:,.0f}"),
    ("last refusing", lambda t: f"{t.last_refusing_ms:,.0f}"),
    ("last byte", lambda t: f"{t.last_byte_ms:,.0f}"),
    ("bound", lambda t: f"{t.bound_ms:,.0f}"),
    ("cut", lambda t: str(t.cut)),
    ("withheld", lambda t: str(t.withheld)),
    ("between", lambda t: str(t.between)),
    ("after", lambda t: str(t.after)),
    ("", lambda t: "" if t.kept else "NOT KEPT"),
)


def main() -> None:
    """Print the figures; exit code 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="trials of each variant")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Fleet(folder, args.times * len(VARIANTS)) as fleet:
            for _ in range(args.times):
                for variant in VARIANTS:
                    trials.append(trial(fleet, variant))
                    print(trials[-1], file=sys.stderr, flush=True)
            idle = idle_cost(fleet)
            costs = look_costs(fleet, folder)
    if args.json:
        print(json.dumps({"trials": [asdict(one) for one in trials], "idle": idle, "look_ms": costs}, indent=2))
    else:
        print("ms after the publication; `bound` is what is promised for the last byte that a caller is allowed")
        print("  ".join(f"{name:>14}" for name, _ in COLUMNS))
        for one in sorted(trials, key=lambda one: VARIANTS.index(one.variant)):
            print("  ".join(f"{show(one):>14}" for _, show in COLUMNS))
        print(f"an idle worker, with {REFRESH_S:g} s between looks and Redis: {idle * 100:.2f} % of a core")
        print(
            f"one look: {costs['same']:.1f} ms of CPU with nothing new, {costs['new']:.1f} ms with new lists (maxima)"
        )
    raise SystemExit(0 if all(one.kept for one in trials) else 1)


if __name__ == "__main__":
    main()
