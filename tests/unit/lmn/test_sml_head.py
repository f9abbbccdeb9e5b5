from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lmn.errors import ChecksumMismatch, MalformedRecords, PortClosed, UnknownMeter
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId
from lmn.serial_port import open_port
from lmn.sml.codec import signed
from lmn.sml.driver import BAUDRATE, HeadMeter, SmlHead
from lmn.sml.messages import GetListResponse, Message, OtherBody, to_transport
from lmn.sml.readings import Quirk, meter_of
from lmn.wired.discovery import Addresses, Discovery
from lmn.wired.hdlc import HdlcDeframer
from lmn.wired_values import WiredRefusal, WiredValues
from tests.support.sml_frames import SERVER_ID, entry, frame
from tools.cli import meter as command
from tools.cli.meter_head import run_head, sml_meter
from tools.cli.meter_wired import run_wired
from tools.counterparts.meter_sml import DEFAULT_METER, SmlMeter, VirtualHead, server_id
from tools.counterparts.meter_wired import DEFAULT_METER as WIRED_METER

HEAD = HeadMeter(DEFAULT_METER, server_id(DEFAULT_METER))
Outcome = WiredValues | WiredRefusal


class Listening:
    """A head's driver in a task of its own, and what it passed on."""

    def __init__(self, port: str, head: HeadMeter = HEAD) -> None:
        self.heard: asyncio.Queue[Outcome] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self.service = SmlHead(lambda: open_port(port, BAUDRATE), head, self.heard.put_nowait, loop.time)
        self.task = asyncio.create_task(self.service.run())

    async def __aenter__(self) -> Listening:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def next(self) -> Outcome:
        return await asyncio.wait_for(self.heard.get(), 10)

    async def values(self) -> WiredValues:
        while True:
            found = await self.next()
            if isinstance(found, WiredValues):
                return found


@pytest.mark.parametrize("chunk", [1, 7, 4096])
async def test_values_arrive(tmp_path: Path, chunk: int) -> None:
    meter = SmlMeter()
    async with (
        VirtualHead(tmp_path / "head0", baudrate=0, chunk=chunk) as head,
        Listening(str(head.link)) as listening,
    ):
        await asyncio.sleep(0.05)
        await head.push(b"\x00garbage" + meter.frame())
        found = await listening.values()
        assert {one.obis: (one.value, one.unit) for one in found.values}[ACTIVE_ENERGY_IMPORT] == (
            Decimal(meter.import_wh10) / 10,
            "Wh",
        )
        assert {one.obis for one in found.values} >= {ACTIVE_ENERGY_EXPORT}
        assert (found.meter, found.protected) == (DEFAULT_METER, False)


async def test_a_hostile_line_brings_no_wrong_value(tmp_path: Path) -> None:
    rng = random.Random(3)
    meter = SmlMeter()
    true = set()
    async with VirtualHead(tmp_path / "head0", baudrate=0, chunk=33) as head:
        async with Listening(str(head.link)) as listening:
            await asyncio.sleep(0.05)
            for _ in range(60):
                meter.step()
                true.add(Decimal(meter.import_wh10) / 10)
                data = bytearray(meter.frame())
                for _ in range(rng.randrange(3)):
                    place = rng.randrange(len(data))
                    if rng.random() < 0.5:
                        data[place] ^= 1 << rng.randrange(8)
                    else:
                        del data[place : place + rng.randrange(1, 5)]
                await head.push(bytes(data))
            meter.step()
            last = Decimal(meter.import_wh10) / 10
            true.add(last)
            await head.push(meter.frame())
            while True:
                found = await listening.values()
                value = next(one.value for one in found.values if one.obis == ACTIVE_ENERGY_IMPORT)
                assert value in true
                if value == last:
                    break
        assert listening.service.statistics.rejected


@pytest.mark.parametrize("flood", [b"\x00", b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01", b"\x1b\x1b\x1b\x1b\x1a"])
async def test_a_flooded_head_brings_no_value_and_recovers(tmp_path: Path, flood: bytes) -> None:
    meter = SmlMeter()
    async with (
        VirtualHead(tmp_path / "head0", baudrate=0, chunk=997) as head,
        Listening(str(head.link)) as listening,
    ):
        await asyncio.sleep(0.05)
        for _ in range(40):
            await head.push(flood * (8192 // len(flood)))
        heard = [listening.heard.get_nowait() for _ in range(listening.heard.qsize())]
        assert not any(isinstance(found, WiredValues) for found in heard)
        await head.push(bytes(70_000))  # more than a frame may have: what began is over
        pushing = asyncio.create_task(_push_until_cancelled(head, meter))
        try:
            assert len((await listening.values()).values) == 3
        finally:
            pushing.cancel()


async def _push_until_cancelled(head: VirtualHead, meter: SmlMeter) -> None:
    """As a meter does: a host that is still busy with the flood may lose the first of them."""
    while True:
        await head.push(meter.frame())
        await asyncio.sleep(0.1)


async def test_a_pulled_head_ends_the_service(tmp_path: Path) -> None:
    async with VirtualHead(tmp_path / "head0", baudrate=0) as head, Listening(str(head.link)) as listening:
        await asyncio.sleep(0.05)
        head.vanish()
        with pytest.raises(PortClosed):
            await asyncio.wait_for(listening.task, 10)
    with pytest.raises(PortClosed):
        await open_port(str(tmp_path / "head0"), BAUDRATE)


def outcome(data: bytes, head: HeadMeter = HEAD) -> Outcome:
    from lmn.sml.transport import one_frame

    return SmlHead(None, head, lambda _: None, lambda: 0.0)._outcome(one_frame(data))  # type: ignore[arg-type]


def test_another_meter_in_front_of_the_head_is_refused() -> None:
    found = outcome(frame())
    assert isinstance(found, WiredRefusal)
    assert isinstance(found.error, UnknownMeter)


def test_a_broken_message_in_a_good_frame_is_refused() -> None:
    good = Message(GetListResponse(HEAD.server_id, ())).to_bytes()
    damaged = bytearray(good)
    damaged[-3] ^= 1
    from lmn.sml.transport import to_frame

    found = outcome(to_frame(bytes(damaged)))
    assert isinstance(found, WiredRefusal)
    assert isinstance(found.error, ChecksumMismatch)
    odd = outcome(to_transport([Message(OtherBody(0x0701, b"\x71\x01"))]))
    assert isinstance(odd, WiredRefusal)
    assert isinstance(odd.error, MalformedRecords)


def test_contradicting_values_are_none() -> None:
    one = entry("0100010800ff", signed(5, 4), unit=30, scaler=0)
    other = entry("0100010800ff", signed(6, 4), unit=30, scaler=0)
    head = HeadMeter(meter_of(SERVER_ID), SERVER_ID)
    found = outcome(frame(one, other), head)
    assert isinstance(found, WiredValues)
    assert found.values == ()
    assert len(outcome(frame(one, one), head).values) == 1  # type: ignore[union-attr]


def test_the_quirk_belongs_to_one_meter() -> None:
    odd = frame(entry("0100100700ff", signed(-1, 2), unit=27, scaler=0))
    plain = outcome(odd, HeadMeter(meter_of(SERVER_ID), SERVER_ID))
    quirky = outcome(odd, HeadMeter(meter_of(SERVER_ID), SERVER_ID, frozenset({Quirk.DZG_SIGN})))
    assert isinstance(plain, WiredValues)
    assert isinstance(quirky, WiredValues)
    assert (plain.values[0].value, quirky.values[0].value) == (-1, 65535)


async def test_a_head_behind_a_socket() -> None:
    meter = SmlMeter()
    done = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not done.is_set():  # as a meter does; pyserial forgets what came while it opened
            writer.write(meter.frame())
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Listening(f"socket://127.0.0.1:{port}") as listening:
        assert len((await listening.values()).values) == 3
        done.set()
        with pytest.raises(PortClosed):
            await asyncio.wait_for(listening.task, 10)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("url", ["socket://127.0.0.1:1", "nonsense://x", "socket://"])
async def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(PortClosed):
        await open_port(url, BAUDRATE)


async def test_bytes_to_a_socket() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait(await reader.readexactly(3))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line = await open_port(f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}", BAUDRATE)
    await line.write(b"abc")
    assert await asyncio.wait_for(got.get(), 10) == b"abc"
    assert await asyncio.wait_for(line.read(), 10) == b""
    line.close()
    line.close()
    with pytest.raises(PortClosed):
        await line.write(b"x")
    server.close()
    await server.wait_closed()


async def test_the_command_pushes_until_it_is_stopped(tmp_path: Path) -> None:
    stop = asyncio.Event()
    link = tmp_path / "new" / "head0"
    meter = sml_meter(MeterId("SMG", "00000007", 1, 2), 5)
    pushing = asyncio.create_task(run_head(link, 10, meter, Console(quiet=True), stop))
    while not link.exists():  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(0.01)
    async with Listening(str(link), HeadMeter(meter.meter, server_id(meter.meter))) as listening:
        assert (await listening.values()).meter == meter.meter
    stop.set()
    await asyncio.wait_for(pushing, 10)
    assert not link.is_symlink()


@pytest.mark.parametrize("options", [["--id", "nobody"], ["--id", "SMG-a0000001-01-02"]])
def test_wrong_usage(options: list[str], tmp_path: Path) -> None:
    arguments = ["--head", "--link", str(tmp_path / "head0"), *options]
    assert CliRunner().invoke(command.app, arguments).exit_code == 2


@pytest.mark.parametrize("master", [None, bytes(16)], ids=["paired", "unpaired"])
async def test_the_command_answers_on_a_line(tmp_path: Path, master: bytes | None) -> None:
    stop = asyncio.Event()
    link = tmp_path / "line0"
    running = asyncio.create_task(
        run_wired(link, tmp_path / "none.pem", 10, None, 0, Console(quiet=True), stop, master)
    )
    while not link.exists():  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(0.01)
    line = await open_port(str(link), 921600)
    await line.write(Discovery(Addresses()).call(1).to_bytes())
    [heard] = HdlcDeframer().receive(await asyncio.wait_for(line.read(), 10))
    assert Discovery(Addresses()).heard(heard) == server_id(WIRED_METER)
    assert (tmp_path / "line0-meter" / "meter.pem").exists() is (master is None)
    line.close()
    stop.set()
    await asyncio.wait_for(running, 10)
