"""A whole gateway for flow tests: the real firmware, its emulated card, a stick on a pty, real counterparts.

A `Site` is a gateway's folder with everything around it; `Site.running()` is one life of its firmware. Tests
wait for what they want to see (`eventually`, `Life.entry`), never for time to pass.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from firmware import config
from firmware.boot import Gateway, Tempo, open_gateway
from firmware.clock.clock import Clock, SystemClock
from firmware.errors import StoreUnavailable
from firmware.log.entry import Entry, Event
from firmware.log.journal import Journal, Logs
from firmware.store.stores import Stores
from hsm.api import CertificateUse
from hsm.emulator import load_card
from hsm.emulator.state import CardState, decode_state
from hsm.emulator.storage import FileStorage
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import ModuleUnavailable
from hsm.session import ModuleSession
from hsm.transport import CardTransport
from tools.cli.init import make_folder
from tools.counterparts.emp import Supplier
from tools.counterparts.gwa import Administrator, place_order
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.pki import GWA_SERVER_NAME, issue_gateway
from tools.counterparts.server import Listening
from tools.counterparts.stick_im871a import VirtualStick
from tools.demo.plan import OBIS
from tools.homes.peers import peer_entry
from wan.emp.outbox import Outbox, Pace
from wan.pki.enrol import make_triple

T = TypeVar("T")
GATEWAY_ID = "ESGW0100000001"
NAME = GATEWAY_ID.lower()
CONSUMER = "consumer-1"
SUPPLIER = "testemp"
BILLING = "billing"
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 30.0
"""Generous: nothing here is about speed."""
QUICK = Tempo(restart_s=0.05, delivery=Pace(first_s=0.1, factor=1.0))


async def eventually(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Look again until there is something; `what` names it in the failure."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never seen: {what}") from None


class Events(list[dict[str, Any]]):
    """What a counterpart says, and a way to wait for it."""

    def __call__(self, event: Any) -> None:
        self.append(dict(event))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == kind]

    async def first(self, kind: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            return next(iter(self.of(kind)), None)

        return await eventually(look, f"event {kind!r}")


class CardLine:
    """The way to the module, which a test may disturb; give its method `of` to `Site.running`."""

    def __init__(self) -> None:
        self.pulled = False
        self.nonsense = 0
        """So many of the next answers are no response APDUs of ours."""
        self.lose_signatures = 0
        """So many of the next signatures are made in the card, and their answers get lost."""
        self.signed = 0
        """Signatures that the card was asked for."""
        self.connections = 0

    def of(self, inner: CardTransport) -> CardTransport:
        return _Disturbed(self, inner)


class _Disturbed:
    def __init__(self, line: CardLine, inner: CardTransport) -> None:
        self._line, self._inner = line, inner

    async def connect(self) -> None:
        if self._line.pulled:
            raise ModuleUnavailable("no card in the reader")
        await self._inner.connect()
        self._line.connections += 1

    async def transmit(self, command: bytes) -> bytes:
        line = self._line
        if line.pulled:
            raise ModuleUnavailable("the card was taken out")
        answer = await self._inner.transmit(command)
        if command[1] == 0x2A:  # PERFORM SECURITY OPERATION: COMPUTE DIGITAL SIGNATURE
            line.signed += 1
            if line.lose_signatures:
                line.lose_signatures -= 1
                raise ModuleUnavailable("the answer was lost")
        if line.nonsense:
            line.nonsense -= 1
            return b"\x6f\x00\xde\xad"
        return answer

    async def close(self) -> None:
        await self._inner.close()


@dataclass
class Life:
    """One life of the firmware."""

    gateway: Gateway
    serving: asyncio.Task[None]

    @property
    def _parts(self) -> Any:
        return self.gateway._parts

    @property
    def system(self) -> Journal:
        return Logs(self._parts.stores, self._parts.clock).system

    def consumer(self) -> Journal:
        return Logs(self._parts.stores, self._parts.clock).consumer(CONSUMER)

    async def entry(self, event: Event, sub_event: str | None = None, after: int = 0) -> Entry:
        """Wait for an entry in the system log."""

        async def look() -> Entry | None:
            for entry in await self.system.entries(after):
                if entry.event is event and sub_event in (None, entry.sub_event):
                    return entry
            return None

        return await eventually(look, f"log entry {event.value} {sub_event or ''}")

    async def accepted(self, count: int) -> None:
        """Wait until so many telegrams are durable."""

        async def look() -> bool:
            return self.gateway.telegrams.accepted >= count

        await eventually(look, f"{count} accepted telegrams")

    async def rejected(self, code: str, count: int = 1) -> None:
        async def look() -> bool:
            return self.gateway.telegrams.rejected[code] >= count

        await eventually(look, f"{count} rejected as {code!r}, seen {self.gateway.telegrams}")

    async def copied(self, count: int) -> None:
        """Wait until so many copies of accepted telegrams were dropped."""

        async def look() -> bool:
            return self.gateway.telegrams.duplicates >= count

        await eventually(look, f"{count} copies, seen {self.gateway.telegrams}")


@dataclass
class Site:
    """A gateway's folder, its stick and its meter; with `enrol` also its place in a PKI."""

    folder: Path
    stick: VirtualStick = field(init=False)
    meter: ElectricityMeter = field(default_factory=ElectricityMeter)
    made: bool = False
    """Whether `smgw init` was there before."""

    def __post_init__(self) -> None:
        if not self.made:
            make_folder(self.folder, gateway_id=GATEWAY_ID)
        self.stick = VirtualStick(self.folder / "stick0", baudrate=0)
        key = bytes(range(16)).hex()
        self.write_secret("meters.toml", f"[[meter]]\n{meter_lines(self.meter, key)}")

    def write_secret(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / name).chmod(0o600)

    @property
    def configuration(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def card_state(self) -> CardState:
        """What the card keeps, read past its interface."""
        return decode_state(FileStorage(self.folder / "module").load())

    async def enrol(self, pki: Path, gwa_port: int, *, poll_s: float = 0.2) -> None:
        """Keys in the module, certificates for them, the administrator in the configuration."""
        card = load_card(self.folder / "module")
        pin = (self.folder / "pin").read_bytes()
        async with ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module:
            requests = await make_triple(module, GATEWAY_ID)
        target = self.folder / "pki"
        target.mkdir()
        for use, pem in issue_gateway(pki, GATEWAY_ID, requests).items():
            (target / f"{use.value}.pem").write_text(pem, encoding="ascii")
        for name, source in (
            ("root", "root"),
            ("sub-ca", "sub-ca"),
            ("gwa-tls", "gwa/tls"),
            ("gwa-sig", "gwa/sig"),
        ):
            shutil.copyfile(pki / f"{source}.pem", target / f"{name}.pem")
        text = self.configuration.read_text(encoding="utf-8").replace('meters = "meters.toml"\n', "")
        text += '\n[wan]\nroot = "pki/root.pem"\nsub_ca = "pki/sub-ca.pem"\n'
        text += "".join(f'{use.value} = "pki/{use.value}.pem"\n' for use in CertificateUse)
        text += f'[wan.gwa]\nhost = "127.0.0.1"\nport = {gwa_port}\nserver_name = "{GWA_SERVER_NAME}"\n'
        text += (
            f'tls_certificate = "pki/gwa-tls.pem"\nsig_certificate = "pki/gwa-sig.pem"\npoll_s = {poll_s}\n'
        )
        self.configuration.write_text(text, encoding="utf-8")

    @asynccontextmanager
    async def running(
        self, *, line: CardLine | None = None, clock: Clock | None = None, tempo: Tempo = QUICK
    ) -> AsyncIterator[Life]:
        """One life: open, serve, stop in order. What stopped it by itself is raised at the end."""
        settings = config.load(self.configuration)
        async with open_gateway(
            settings, clock, tempo=tempo, card_line=None if line is None else line.of
        ) as gateway:
            serving = asyncio.create_task(gateway.run())
            try:
                yield Life(gateway, serving)
            finally:
                serving.cancel()
                await asyncio.wait((serving,))
        if not serving.cancelled():
            serving.result()

    async def send(self, telegram: bytes | None = None) -> bytes:
        """Let a telegram (the meter's next one) come out of the air, once a gateway listens; returns it."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.stick.listening()
        sent = telegram if telegram is not None else self.next_telegram()
        assert await self.stick.transmit(sent)
        return sent

    async def hears_again(self, life: Life) -> None:
        """Send until one is taken: the stick's service was stopped meanwhile and takes up its stick again."""
        before = life.gateway.telegrams.accepted

        async def taken() -> bool:
            await self.send()
            await asyncio.sleep(0.1)
            return life.gateway.telegrams.accepted > before

        await eventually(taken, "a telegram that is taken")

    def next_telegram(self) -> bytes:
        self.meter.step()
        return self.meter.telegram()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Stores]:
        """The stores of a gateway that is not running."""
        card = load_card(self.folder / "module")
        pin = (self.folder / "pin").read_bytes()
        async with (
            ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module,
            await Stores.open(self.folder / "state", module) as stores,
        ):
            yield stores

    async def log(self) -> list[Entry]:
        """The system log of a gateway that is not running, its chain checked."""
        async with self.opened() as stores:
            system = Logs(stores, SystemClock()).system
            await system.verify()
            return await system.entries()

    @asynccontextmanager
    async def process(self, *within: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`smgwd` as a child of the command `within`, or of ours; killed at the end if it still lives."""
        child = await asyncio.create_subprocess_exec(
            *within, sys.executable, "-m", "firmware", "-c", str(self.configuration), cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()


async def line_with(process: asyncio.subprocess.Process, words: bytes) -> bytes:
    """Read the diagnostics of a process until a line holds `words`."""
    assert process.stderr is not None
    seen = []
    async with asyncio.timeout(TIMEOUT_S):
        while line := await process.stderr.readline():
            seen.append(line)
            if words in line:
                return line
    raise AssertionError(f"the process ended without {words!r}: {b''.join(seen)!r}")


def meter_lines(meter: ElectricityMeter, key_hex: str) -> str:
    return (
        f'id = "electricity"\nmeter = "{meter.meter}"\nkey_hex = "{key_hex}"\n'
        f'mode = "strict"\nconsumer = "{CONSUMER}"\n'
    )


def registering(meter: ElectricityMeter, start_utc: datetime, **options: Any) -> dict[str, Any]:
    """The body of an order: the meter, and a TAF 7 profile that registers each second for the supplier."""
    return {
        "meters": [
            {
                "id": "electricity",
                "meter": str(meter.meter),
                "key_hex": bytes(range(16)).hex(),
                "mode": "strict",
                "consumer": CONSUMER,
            }
        ],
        "processing": [
            {
                "id": BILLING,
                "taf": 1,
                "billing_period_s": 1,
                "meter": str(meter.meter),
                "obis": OBIS,
                "consumer": CONSUMER,
                "registration_period_s": 1,
                "window_s": 0.45,
                "recipients": [SUPPLIER],
                "valid_from": start_utc.isoformat(),
                **options,
            }
        ],
    }


def bill_for(peer: dict[str, Any]) -> dict[str, Any]:
    """A communication profile that sends the bill to `peer`."""
    return {
        "id": f"bill-{peer['name']}",
        "processing": BILLING,
        "recipient": peer["name"],
        "purpose": "billing",
        "peer": peer,
    }


def whole_second(now_utc: datetime | None = None, ahead_s: float = 1.0) -> datetime:
    """The next whole second that is at least `ahead_s` away."""
    now = now_utc or datetime.now(UTC)
    return datetime.fromtimestamp(math.ceil(now.timestamp() + ahead_s), UTC)


class Road:
    """A site with administrator and supplier: everything from the meter to the bill."""

    def __init__(self, site: Site, pki: Path, stack: AsyncExitStack) -> None:
        self.site, self.pki, self._stack = site, pki, stack
        self.gwa_events, self.emp_events = Events(), Events()
        self.gwa: Listening | None = None
        self.emp: Listening | None = None
        self.emp_port = 0

    @classmethod
    async def make(cls, folder: Path, pki: Path, stack: AsyncExitStack) -> Road:
        """Build it in `folder` with a copy of the counterparts' folders; the supplier is not up yet."""
        own = folder / "pki"
        shutil.copytree(pki, own)
        road = cls(Site(folder / "gateway"), own, stack)
        await stack.enter_async_context(road.site.stick)
        await road.open_gwa()
        assert road.gwa is not None
        await road.site.enrol(own, road.gwa.port)
        road.emp_port = await free_port()
        return road

    async def open_gwa(self, port: int = 0, folder: Path | None = None) -> None:
        self.gwa = await Administrator(folder or self.pki / "gwa", self.gwa_events).start(port=port)
        self._stack.push_async_callback(self.gwa.close)

    async def open_emp(self, folder: Path | None = None) -> None:
        """Let a supplier listen at the address that the profiles name."""
        self.emp = await Supplier(folder or self.pki / "emp", self.emp_events).start(port=self.emp_port)
        self._stack.push_async_callback(self.emp.close)

    async def close_emp(self) -> None:
        assert self.emp is not None
        await self.emp.close()

    def order(self, body: dict[str, Any]) -> str:
        return place_order(self.pki / "gwa", GATEWAY_ID, "profiles", body)

    def order_bill(self, **options: Any) -> str:
        """Order one bill, of the second that begins soon."""
        start = whole_second()
        body = registering(
            self.site.meter, start, valid_until=(start + timedelta(seconds=1)).isoformat(), **options
        )
        body["communication"] = [bill_for(peer_entry(SUPPLIER, self.pki / "emp", self.emp_port))]
        return self.order(body)

    @asynccontextmanager
    async def metering(self) -> AsyncIterator[None]:
        """Let the meter send until the block ends."""

        async def send() -> None:
            while True:
                await self.site.stick.transmit(self.site.next_telegram())
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.wait((sending,))

    async def waiting(self, life: Life, count: int = 1) -> None:
        """Wait until so many sealed messages lie in the outbox."""

        async def look() -> bool:
            return len(await life._parts.stores.consumer.items("outbox")) >= count

        await eventually(look, "a message that waits in the store")

    async def delivered(self, life: Life) -> dict[str, Any]:
        """Wait for the bill, and until the gateway knows that it arrived; returns the supplier's event."""
        event = await self.emp_events.first("delivery")

        async def look() -> bool:
            return not await life._parts.stores.consumer.items("outbox")

        await eventually(look, "an empty outbox")
        return event

    @asynccontextmanager
    async def outbox_forgets(self, life: Life) -> AsyncIterator[None]:
        """Within the block the gateway fails to note what arrived, as if it had died just before."""
        services = [getattr(service, "service", service) for service in life.gateway.services]
        outbox = next(service for service in services if isinstance(service, Outbox))
        store = outbox._store
        right = store.delivered

        async def forget(message_id: str) -> None:
            raise StoreUnavailable("no space left")

        store.delivered = forget  # type: ignore[method-assign]  # for this block
        try:
            yield
        finally:
            store.delivered = right  # type: ignore[method-assign]

    def delivered_once(self) -> bool:
        return len(self.emp_events.of("delivery")) == 1 and not self.emp_events.of("repeated")


async def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
