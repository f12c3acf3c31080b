"""The processes beside the workers: the sealer, which alone holds the log's key, and the shipper, if records are sent anywhere.

They outlive the workers: what these write last is sealed last.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from gateway.seal.process import SealerProcess
from gateway.settings import Settings
from gateway.ship.process import ShipperProcess, Work
from gateway.tlog.frames import host_id


class Beside:
    """Both, running. Starts them at once; `ready` waits for them."""

    def __init__(self, settings: Settings, gateway_id: str | None = None) -> None:
        """`gateway_id`: as the workers'; None: this host's."""
        gateway_id = gateway_id or host_id()
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
        """End both, the sealer after a last round. Harmless twice."""
        self._sealer.close()
        if self._shipper is not None:
            self._shipper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
