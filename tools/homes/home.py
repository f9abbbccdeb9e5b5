"""One home: folder, security module, virtual stick and meter, and the real firmware."""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from firmware import config
from firmware.boot import Gateway, open_gateway
from firmware.clock.clock import Clock, SystemClock
from firmware.enforcement.dcnet.machines import SlotState
from firmware.metering.register import RegisteredValue
from hsm.api import CertificateUse
from hsm.session import ModuleSession, SessionStatistics
from hsm.transport import opener
from tools.cli.consumer_code import new_code
from tools.cli.controlled import ask
from tools.cli.init import make_folder
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.pki import GWA_SERVER_NAME, issue_gateway
from tools.counterparts.stick_im871a import VirtualStick
from tools.homes.cards import Cards
from tools.homes.household import Household
from tools.homes.personalise import put_into_operation
from wan.pki.enrol import make_triple


@dataclass(frozen=True, slots=True)
class Span:
    """Slots whose energy no total holds, and how much it is."""

    first_slot: int
    last_slot: int
    import_wh: int
    reason: str


@dataclass(slots=True)
class Tally:
    """What happened in a home over all its gateway's lives."""

    sent: int = 0
    """Telegrams that the stick heard on the air while a gateway listened."""
    accepted: int = 0
    rejected: int = 0
    """Also what came a second time and was dropped without an alarm."""
    pace_runs: int = 0
    apdus: int = 0
    denied: int = 0
    orders_refused: int = 0
    tls: set[tuple[str, str, str]] = field(default_factory=set)
    registered: dict[datetime, int | None] = field(default_factory=dict)
    """Registered energy register in Wh by instant, from the gateway's own sealed store."""
    owed: dict[str, list[Span]] = field(default_factory=dict)
    """Net id -> what is owed, from the gateway's own ledger."""
    settled: dict[str, list[int]] = field(default_factory=dict)
    """Net id -> the slots whose energy went into a reconcile sum."""
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Consumer -> the entries that he may read, as the control socket gives them."""
    views: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Consumer -> the nets that he may see, as the control socket shows them."""
    transmitted: list[tuple[datetime, int]] = field(default_factory=list)
    """When the meter sent which register value, from the meter itself."""


class Home:
    """A home that can be entered, switched off and on again.

    Args:
        household: who lives there.
        folder: of the gateway; new, or one that a run before left.
        profile: the processing profile whose registered values are noted when the gateway stops.
        clock: the time of gateway and meter; the operating system's if None.
        more_profiles: further profiles of the same register.
    """

    def __init__(
        self,
        household: Household,
        folder: Path,
        profile: str,
        clock: Clock | None = None,
        *,
        more_profiles: tuple[str, ...] = (),
    ) -> None:
        self.household, self.folder, self._profiles = household, folder, (profile, *more_profiles)
        self._clock = clock if clock is not None else SystemClock()
        self._began_utc = self._clock.now_utc()
        self.tally = Tally()
        self._stick = VirtualStick(folder / "stick0")
        self._meter = ElectricityMeter(
            household.meter,
            household.meter_key,
            seed=household.number,
            import_wh=1_000_000 * household.number,
        )
        self.boot_s = 0.0
        """How long enrolment and start took; tells how fast machine and module are."""
        self._meter_stopped = False
        self._gateway: Gateway | None = None
        self._power: asyncio.Event | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def running(self) -> Gateway:
        """The gateway, switched on."""
        assert self._gateway is not None, "switched off"
        return self._gateway

    async def enrol(
        self,
        pki: Path,
        gwa_port: int,
        cards: Cards,
        poll_s: float,
        *,
        gwa_server_name: str = GWA_SERVER_NAME,
    ) -> None:
        """Make folder and module, keys inside it, certificates from the PKI, and the settings.

        Args:
            pki: a PKI or a branch of one, with the administrator's folder gwa.
            gwa_port: where the administrator listens on this machine.
            cards: places the module.
            poll_s: the pause after which the gateway asks its administrator again.
            gwa_server_name: in the administrator's TLS certificate.
        """
        make_folder(self.folder, gateway_id=self.household.gateway_id)
        self._write_transport(await cards.place(self.household.number, self.folder))
        way = config.load(self.folder / "gateway.toml").module.way
        pin = (self.folder / "pin").read_bytes()
        began_s = time.monotonic()
        async with ModuleSession(opener(way), lambda: pin) as module:
            requests = await make_triple(module, self.household.gateway_id)
            await put_into_operation(module, pki)
            self._note_module(module.statistics)
        self.boot_s = time.monotonic() - began_s
        certificates = self.folder / "pki"
        certificates.mkdir()
        for use, pem in issue_gateway(pki, self.household.gateway_id, requests).items():
            (certificates / f"{use.value}.pem").write_text(pem, encoding="ascii")
        for name, source in (
            ("root.pem", "root.pem"),
            ("sub-ca.pem", "sub-ca.pem"),
            ("gwa-tls.pem", "gwa/tls.pem"),
            ("gwa-sig.pem", "gwa/sig.pem"),
        ):
            (certificates / name).write_bytes((pki / source).read_bytes())
        self._write_settings(gwa_port, poll_s, gwa_server_name)

    def _write_transport(self, transport: str) -> None:
        path = self.folder / "gateway.toml"
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace('transport = "emulator"', f'transport = "{transport}"', 1), encoding="utf-8"
        )

    def _write_settings(self, gwa_port: int, poll_s: float, gwa_server_name: str) -> None:
        path = self.folder / "gateway.toml"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        text = "\n".join(lines).replace("insecure_small_nets = false", "insecure_small_nets = true")
        text = text.replace('meters = "meters.toml"\n', "").replace('level = "info"', 'level = "warning"')
        text += (
            '\n[wan]\nroot = "pki/root.pem"\nsub_ca = "pki/sub-ca.pem"\n'
            + "".join(f'{use.value} = "pki/{use.value}.pem"\n' for use in CertificateUse)
            + f'[wan.gwa]\nhost = "127.0.0.1"\nport = {gwa_port}\nserver_name = "{gwa_server_name}"\n'
            'tls_certificate = "pki/gwa-tls.pem"\nsig_certificate = "pki/gwa-sig.pem"\n'
            f"poll_s = {poll_s}\n"
        )
        tomllib.loads(text)
        path.write_text(text, encoding="utf-8")

    async def switch_on(self) -> None:
        """Start the firmware; returns once it is up and its stick listens.

        Raises:
            Exception: whatever the gateway stopped with.
        """
        began_s = time.monotonic()
        up, self._power = asyncio.Event(), asyncio.Event()
        self._life = asyncio.create_task(self._live(up, self._power), name=f"home.{self.household.name}")
        listening = asyncio.create_task(self._ready(up))
        await asyncio.wait((self._life, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._life.done():
            self._life.result()
        self.boot_s += time.monotonic() - began_s

    async def switch_off(self) -> None:
        """Stop the firmware in its order."""
        if self._life is not None and self._power is not None:
            self._power.set()
            await self._life
            self._life = None

    async def _ready(self, up: asyncio.Event) -> None:
        await up.wait()
        await self._stick.listening()

    async def _live(self, up: asyncio.Event, power: asyncio.Event) -> None:
        settings = config.load(self.folder / "gateway.toml")
        async with open_gateway(settings, self._clock) as gateway:
            self._gateway = gateway
            up.set()
            serving = asyncio.create_task(gateway.run())
            switched_off = asyncio.create_task(power.wait())
            await asyncio.wait((serving, switched_off), return_when=asyncio.FIRST_COMPLETED)
            switched_off.cancel()
            if serving.done():
                serving.result()
            serving.cancel()
            await asyncio.wait((serving,))
            await self._note(gateway)
        self._note_module(gateway.module.statistics)  # its last commands come while it closes
        self._gateway = None

    async def _note(self, gateway: Gateway) -> None:
        tally = self.tally
        tally.accepted += gateway.telegrams.accepted
        tally.rejected += gateway.telegrams.rejected_total + gateway.telegrams.duplicates
        tally.denied += gateway.counts.denied
        tally.orders_refused += gateway.counts.orders_refused
        tally.tls |= {(facts.version, facts.group, facts.cipher) for facts in gateway.tls_facts()}
        now_utc = self._clock.now_utc()
        for profile in self._profiles:
            for value in await gateway.originals.between(profile, self._began_utc, now_utc):
                tally.registered[value.instant_utc] = _whole_wh(value)
        if gateway.wide_area is not None:
            for member in gateway.wide_area.nets.members():
                tally.settled[member.rules.net.hex()] = [
                    entry.slot for entry in await member.slots() if entry.state is SlotState.SETTLED
                ]
                tally.owed[member.rules.net.hex()] = [
                    Span(one.first_slot, one.last_slot, one.import_wh, one.reason)
                    for one in await member.owed()
                ]

    async def look_as(self, consumer: str) -> None:
        """Note what a consumer may read and see of this gateway now, asked as he would ask.

        Raises:
            NotReached: the gateway does not answer, or refuses.
        """
        path = self.folder / "gateway.toml"
        shown = await asyncio.to_thread(new_code, path, consumer)
        about = {"role": "consumer", "name": consumer, "consumer_code": shown}
        log = await asyncio.to_thread(ask, path, op="log", log="consumer", consumer=consumer, **about)
        nets = await asyncio.to_thread(ask, path, op="dcnet", **about)
        self.tally.logs[consumer], self.tally.views[consumer] = log["entries"], nets["nets"]

    def _note_module(self, statistics: SessionStatistics) -> None:
        self.tally.pace_runs += statistics.sessions
        self.tally.apdus += statistics.apdus

    # -- what is on the air --------------------------------------------------------------------------

    async def live_here(self, stack: AsyncExitStack) -> None:
        """Plug the stick in; it stays until `stack` ends."""
        await stack.enter_async_context(self._stick)

    async def transmit(self, telegrams: Iterable[bytes]) -> None:
        """Let telegrams of other meters come out of the air."""
        for telegram in telegrams:
            heard_it = await self._stick.transmit(telegram)  # not in one line with +=: the meter counts, too
            self.tally.sent += heard_it

    def meter_stops(self) -> None:
        """Let the electricity meter finish its telegram and send no more."""
        self._meter_stopped = True

    async def meter_runs(self, draws: Callable[[], int], interval_s: float) -> None:
        """Let the electricity meter draw and send, every `interval_s` of the home's clock, until it stops."""
        due_s = self._clock.monotonic()
        while not self._meter_stopped:
            self._meter.step(draws())
            telegram, register_wh = self._meter.telegram(), self._meter.import_wh
            sent_utc = self._clock.now_utc()
            if self._gateway is not None and await self._stick.transmit(telegram):
                self.tally.sent += 1
                self.tally.transmitted.append((sent_utc, register_wh))
            due_s += interval_s
            await self._clock.sleep(due_s - self._clock.monotonic())


def _whole_wh(value: RegisteredValue) -> int | None:
    return None if value.value is None else int(value.value)
