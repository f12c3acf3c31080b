"""What the license gate costs: `python -m tests.bench.license` prints a table. One process, one core, CPU time.

A status list of a million licenses is built, signed, verified and unpacked, with none, one in a hundred and half of them
not valid; then verdicts are timed, remembered and not, and the memory of 10,000 licenses' statuses is counted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

from joserfc.jwk import OKPKey

from gateway.license.check import Gate, ModelFacts, Scope, Use, check
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.orders import read_orders
from gateway.license.signed import Kind, sign
from gateway.license.standing import NO_STANDING, GatewayFacts, Material, Standing, stand
from gateway.license.status import build_status_payload, read_status_list
from gateway.license.token import License, open_license
from gateway.license.trust import Trust, load_trust
from policies.model import LicenseRules

ISSUER = "https://authority.example"
URI = "https://authority.example/status/1"
NOW_S = 1_800_000_000
DAY_S = 86_400
ORIGIN = "http://127.0.0.1:8001"
LICENSES = 1_000_000
MODELS = 10_000
ORDERS = 1_000
CALLS = 100_000


def cpu_s(work: Callable[[], Any], runs: int) -> float:
    """Mean CPU seconds of one run."""
    begun = time.process_time()
    for _ in range(runs):
        work()
    return (time.process_time() - begun) / runs


def values(count: int, share: float) -> bytes:
    """Statuses of which a share is revoked or suspended."""
    dice = random.Random(7)
    made = bytearray(count)
    for idx in dice.sample(range(count), int(count * share)):
        made[idx] = dice.choice((1, 2))
    return bytes(made)


def payload(statuses: bytes) -> Any:
    return build_status_payload(
        statuses, issuer=ISSUER, uri=URI, issued_s=NOW_S, expires_s=NOW_S + 30 * DAY_S, ttl_s=3600
    )


def license_of(idx: int, key: OKPKey, trust: Trust) -> License:
    """A license as an authority would issue it, at a place in the list."""
    made = build_claims(
        issuer=ISSUER,
        model=f"model-{idx}",
        origins=[ORIGIN],
        served=[f"model-{idx}*"],
        jurisdictions=["eu", "cn"],
        purposes=["customer-service"],
        modalities=["text"],
        public=True,
        holder="Example Ltd",
        regime="internal",
        issued_s=NOW_S - DAY_S,
        not_before_s=NOW_S - DAY_S,
        expires_s=NOW_S + 30 * DAY_S,
    )
    made["status"] = {"status_list": {"uri": URI, "idx": idx}}
    return open_license(issue(made, key).encode(), trust)


def status_rows(count: int, key: OKPKey, trust: Trust) -> dict[str, float]:
    """Building, size, reading, memory and look-up of one list."""
    rows: dict[str, float] = {}
    for share, name in ((0.0, "all valid"), (0.01, "1 % not valid"), (0.5, "50 % not valid")):
        statuses = values(count, share)
        rows[f"build the payload, {name} [ms]"] = cpu_s(partial(payload, statuses), 3) * 1e3
        signed = sign(payload(statuses), Kind.STATUS, key).encode()
        rows[f"token, {name} [kB]"] = len(signed) / 1e3
        rows[f"verify and unpack, {name} [ms]"] = cpu_s(partial(read_status_list, signed, trust), 20) * 1e3
        found = read_status_list(signed, trust)
        rows[f"memory of the entries, {name} [kB]"] = sys.getsizeof(found.entries) / 1e3
    places = random.Random(3).choices(range(count), k=CALLS)
    begun = time.process_time()
    for idx in places:
        found.value(idx)
    rows["look up one status [us]"] = (time.process_time() - begun) / len(places) * 1e6
    files = Material(statuses=(signed,))
    me = GatewayFacts()
    held, _ = stand(files, NO_STANDING, now_s=NOW_S, gateway=me, trust=trust)
    again = cpu_s(lambda: stand(files, held, now_s=NOW_S, gateway=me, trust=trust), 20)
    rows["a refresh that brings nothing new [ms]"] = again * 1e3
    return rows


def verdict_rows(models: int, key: OKPKey, trust: Trust) -> dict[str, float]:
    """Verdicts, remembered and not; and what the statuses of many licenses take beside the licenses themselves."""
    listed = sign(payload(values(models, 0.01)), Kind.STATUS, key).encode()
    base = {"iss": ISSUER, "iat": NOW_S, "exp": NOW_S + 30 * DAY_S, "ttl": 3600}

    def ordered(pattern: str) -> bytes:
        many = [
            {"ref": f"o-{i}", "scope": "model", "models": [pattern.format(i)], "effective_at": NOW_S - 60}
            for i in range(ORDERS)
        ]
        return sign({**base, "orders": many}, Kind.ORDERS, key).encode()

    orders = ordered("license-{}")
    rows: dict[str, float] = {"verify 1,000 orders [ms]": cpu_s(lambda: read_orders(orders, trust), 5) * 1e3}
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    held, _ = stand(Material(statuses=(listed,)), NO_STANDING, now_s=NOW_S, gateway=GatewayFacts(), trust=trust)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows[f"memory of {models:,} licenses' statuses [kB]"] = (after - before) / 1e3
    license_ = license_of(0, key, trust)
    facts = ModelFacts("model-0", ORIGIN, license_)
    asked, rules = Use(Scope(("eu",), "customer-service", "public"), NOW_S + 1.5), LicenseRules()
    stood = [(held, "no orders")]
    for tokens, name in ((orders, "1,000 orders by name"), (ordered("other-{}*"), "1,000 orders with wildcards")):
        files = Material(statuses=(listed,), orders=(tokens,))
        made, _ = stand(files, NO_STANDING, now_s=NOW_S, gateway=GatewayFacts(), trust=trust)
        stood.append((made, name))
    for standing, name in stood:
        rows[f"verdict, first, {name} [us]"] = cpu_s(partial(check, facts, asked, rules, standing), 200) * 1e6
        rows[f"verdict, remembered, {name} [us]"] = remembered(facts, asked, rules, standing) * 1e6
    return rows


def remembered(facts: ModelFacts, asked: Use, rules: LicenseRules, standing: Standing) -> float:
    """CPU seconds of a verdict that the gate knows already; each call at another time, as calls are."""
    gate = Gate()
    assert gate.check(facts, asked, rules, standing).allowed
    uses = [Use(asked.scope, asked.now_s + i / CALLS) for i in range(CALLS)]
    begun = time.process_time()
    for one in uses:
        gate.check(facts, one, rules, standing)
    return (time.process_time() - begun) / CALLS


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--licenses", type=int, default=LICENSES)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    key = generate_key()
    trust = load_trust(add_to_trust(None, ISSUER, key).encode(), source="trust.json")
    rows = status_rows(args.licenses, key, trust) | verdict_rows(args.models, key, trust)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"one status list of {args.licenses:,} licenses; CPU time of one core")
    for name, value in rows.items():
        print(f"{name:<52} {value:>10,.2f}")


if __name__ == "__main__":
    main()
