"""The processes beside the workers: the sealer, which alone holds the log's key, and the shipper, if records are sent anywhere.

They outlive the workers: what these write last is sealed last.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from gateway.audit.places import SHIPPER, told
from gateway.seal.process import SealerProcess
from gateway.settings import Settings
from gateway.ship.process import ShipperProcess, Work
from gateway.tlog.frames import host_id

ARRIVE_S = 5.0  # our choice: how long an end waits for the last records to reach places that take them
LOOK_MS = 1_000  # the shipper looks for sealed records each second: what it says sooner may not know of the last


class Beside:
    """Both, running. Starts them at once; `ready` waits for them."""

    def __init__(self, settings: Settings, gateway_id: str | None = None) -> None:
        """`gateway_id`: as the workers'; None: this host's."""
        gateway_id = gateway_id or host_id()
        self._data = settings.data
        self._sealer = SealerProcess(settings.data, gateway_id, settings.audit)
        self._shipper = None
        if settings.telemetry.any:
            self._shipper = ShipperProcess(Work(settings.data.absolute(), gateway_id, settings.telemetry))

    def ready(self) -> None:
        """Return once the log's key is known and the places are. Raises ConfigError if one of them cannot begin."""
        self._sealer.ready()
        if self._shipper is not None:
            self._shipper.ready()

    def keep_alive(self) -> list[str]:
        """Start again what ended; what did."""
        return [one.who for one in (self._sealer, self._shipper) if one is not None and one.keep_alive()]

    def close(self) -> None:
        """End both: the sealer after a last round, then the shipper, once that has arrived or does not. Harmless twice."""
        self._sealer.close()
        if self._shipper is not None:
            self._arrive(self._shipper)
            self._shipper.close()

    def _arrive(self, shipper: ShipperProcess) -> None:
        """Leave the shipper a moment for what was sealed last. What a place does not take now it is brought at the next start."""
        sealed_ms = time.time_ns() // 1_000_000
        end = time.monotonic() + ARRIVE_S
        while time.monotonic() < end and shipper.alive:
            said = next((one for one in told(self._data) if one.process == SHIPPER), None)
            late = said is None or said.at_ms <= sealed_ms + LOOK_MS
            if said is not None and not late and all(p.problem or not p.behind_records for p in said.places):
                return
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
