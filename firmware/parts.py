"""What every part of a gateway is built on, once it is open. A value; `firmware.boot` makes it."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.chronicle import Chronicle
from firmware.clock.time_sync import DisciplinedClock
from firmware.config import GatewayConfig
from firmware.life.lifecycle import LifeCycle
from firmware.life.states import Function
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.orders.desk import OrderDesk
from firmware.profile.registry import Registry
from firmware.store.stores import Stores
from firmware.supervisor import MIN_RUN_S, Gated, Reporter, Service
from hsm.session import ModuleSession
from wan.pace import DEFAULT_PACE, Pace


@dataclass(frozen=True, slots=True)
class Tempo:
    """How patient the gateway is with what fails."""

    restart_s: float = MIN_RUN_S
    """A service is started at most once in this time."""
    delivery: Pace = DEFAULT_PACE
    """Of tries while a supplier does not take what waits for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every other part is built on."""

    config: GatewayConfig
    clock: DisciplinedClock
    module: ModuleSession
    stores: Stores
    chronicle: Chronicle
    report: Reporter
    registry: Registry
    orders: OrderDesk
    tempo: Tempo
    logs: Logs
    notices: Notices
    life: LifeCycle

    def gated(self, service: Service, function: Function) -> Service:
        """Return a service that runs only while the operating state allows `function`."""
        return Gated(service, lambda: self.life.allows(function), self.life.watch)

    @property
    def gateway_id(self) -> str:
        """Lower case, as in URLs and documents."""
        return self.config.gateway.id.lower()
