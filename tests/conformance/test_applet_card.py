"""The applet with the gateway's own session, and what jCardSim would spoil: randomness, memory, reset."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm import curves
from hsm.apdu import Sw
from hsm.api import Curve, DataObject, KeySlot, LifeCycle, PublicKey, PublicSlot, SecurityModule
from hsm.emulator.access import STATES, TABLE, Right
from hsm.errors import CommandRefused, ModuleUnavailable, PinRefused
from hsm.profile import PROJECT
from hsm.session import ModuleSession
from hsm.x509 import verify
from hsm.x509.signature import der_to_plain
from tests.support.applet import PIN, Line, TcpTransport, built, require_tools
from tests.support.soft_module import CURVES
from tools.counterparts.applet_card import SOURCES, AppletBroken, AppletCard, Build

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

CURVE = Curve.BRAINPOOL_P256
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


@pytest.fixture(scope="module")
def build() -> Build:
    return built()


@pytest.fixture
def applet(build: Build, tmp_path: Path) -> Iterator[AppletCard]:
    with AppletCard(build, tmp_path / "card", pin=PIN) as card:
        yield card


def session_on(card: AppletCard, **options: Any) -> ModuleSession:
    return ModuleSession(
        lambda: TcpTransport(card.port), lambda: PIN, first_pause_s=0.05, deadline_s=30, **options
    )


async def test_the_whole_interface_of_the_gateway(applet: AppletCard) -> None:
    async with session_on(applet) as session:
        module: SecurityModule = session
        assert len({bytes(await module.random(256)) for _ in range(4)}) == 4
        for curve in Curve:
            key = await module.generate_key_pair(KeySlot.WAN_SIG, curve)
            assert await module.public_key(KeySlot.WAN_SIG) == key
            digest = hashlib.new(curve.hash_name, b"applet").digest()
            assert verify(key, digest, await module.sign(KeySlot.WAN_SIG, digest))
            ephemeral = await module.generate_ephemeral(curve)
            secret = await module.agree(KeySlot.WAN_SIG, ephemeral.public.point)
            assert await module.agree_ephemeral(ephemeral, key.point) == secret
            scalar = 0x1234567890
            outside = curves.multiply(curve, scalar)
            shared = curves.x_of(curve, curves.multiply(curve, scalar, key.point))
            assert await module.agree(KeySlot.WAN_SIG, outside) == shared
        content = bytes(range(256)) * 15
        await module.write_object(DataObject.IDENTIFIERS, content)
        assert await module.read_object(DataObject.IDENTIFIERS) == content
        with pytest.raises(CommandRefused):
            await module.public_key(KeySlot.LMN_TLS)
        assert session.statistics.sessions == 1


async def test_it_verifies_as_another_library_does(applet: AppletCard) -> None:
    """pyca's signatures, one with a number an octet shorter; what never holds; points that are none."""
    async with session_on(applet) as module:
        for curve in Curve:
            field = curve.field_bytes
            own = ec.generate_private_key(CURVES[curve])
            point = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            key = PublicKey(curve, point)
            digest = hashlib.new(curve.hash_name, b"applet").digest()
            algorithm = ec.ECDSA(Prehashed(_HASHES[curve.hash_name]))
            made = [der_to_plain(own.sign(digest, algorithm), curve) for _ in range(4)]
            while made[-1][0] and made[-1][field]:
                made.append(der_to_plain(own.sign(digest, algorithm), curve))
            for number, plain in enumerate([*made[:4], made[-1]]):
                assert await module.verify(key, digest, plain)
                spoiled = bytearray(plain)
                spoiled[number * len(plain) // 5] ^= 0x10
                assert not await module.verify(key, digest, bytes(spoiled))
            assert not await module.verify(key, bytes(field), plain)
            for nothing in (bytes(2 * field), plain[:field] + bytes(field), b"\xff" * 2 * field):
                assert not await module.verify(key, digest, nothing)
            off_curve = point[:-1] + bytes((point[-1] ^ 1,))
            for bad in (b"\x04" + bytes(2 * field), off_curve, point[:-1], b"\x02" + point[1:]):
                with pytest.raises(CommandRefused, match="6A80"):
                    await module.verify(PublicKey(curve, bad), digest, plain)
        assert module.statistics.sessions == 1


async def test_forty_handshakes_at_once_queue(applet: AppletCard) -> None:
    async with session_on(applet) as module:
        key = await module.generate_key_pair(KeySlot.WAN_TLS, CURVE)

        async def handshake() -> None:
            ephemeral = await module.generate_ephemeral(CURVE)
            await module.agree_ephemeral(ephemeral, key.point)

        await asyncio.gather(*(handshake() for _ in range(40)))


async def test_killed_at_work_the_card_comes_back_with_its_keys(build: Build, tmp_path: Path) -> None:
    card = AppletCard(build, tmp_path / "card", pin=PIN)
    await asyncio.to_thread(card.start)
    port = card.port
    async with session_on(card) as module:
        key = await module.generate_key_pair(KeySlot.STORE, CURVE)
        asking = asyncio.create_task(module.public_key(KeySlot.STORE))
        card.kill()
        again = AppletCard(build, tmp_path / "card", pin=b"0000000000", listen_port=port)
        await asyncio.to_thread(again.start)
        try:
            assert await asking == key
            assert session_count(module) == 2
        finally:
            await asyncio.to_thread(again.stop)


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.nightly)])
async def test_killed_while_it_writes_the_card_has_the_old_or_the_new(
    build: Build, tmp_path: Path, rounds: int
) -> None:
    allowed = {b""}
    for number in range(rounds):
        card = AppletCard(build, tmp_path / "card", pin=PIN)
        await asyncio.to_thread(card.start)
        async with session_on(card) as module:
            found = await module.read_object(DataObject.IDENTIFIERS)
            assert found in allowed
            written = bytes((number,)) * 200
            writing = asyncio.create_task(module.write_object(DataObject.IDENTIFIERS, written))
            await asyncio.sleep(number % 16 * 0.0007)  # SELECT and one UPDATE BINARY take some milliseconds
            await asyncio.to_thread(card.kill)
            acknowledged = writing.done() and writing.exception() is None
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        allowed = {written} if acknowledged else {found, written}


def session_count(module: ModuleSession) -> int:
    return module.statistics.sessions


async def test_two_starts_make_different_keys(build: Build, tmp_path: Path) -> None:
    """The first gate: with jCardSim's own generator, both cards would make one key."""
    keys: list[PublicKey] = []
    numbers: list[bytes] = []
    for name in ("one", "two"):
        with AppletCard(build, tmp_path / name, pin=PIN) as card:
            async with session_on(card) as module:
                keys.append(await module.generate_key_pair(KeySlot.WAN_TLS, CURVE))
                numbers.append(await module.random(32))
    assert keys[0] != keys[1]
    assert numbers[0] != numbers[1]


async def test_no_private_key_can_be_had_from_two_signatures(applet: AppletCard) -> None:
    """The second gate: r differs, and the equations that a repeated nonce would solve give no key."""
    order = curves.order(CURVE)
    async with session_on(applet) as module:
        key = await module.generate_key_pair(KeySlot.WAN_SIG, CURVE)
        same = [await module.sign(KeySlot.WAN_SIG, bytes(31) + b"\x01") for _ in range(2)]
        other = await module.sign(KeySlot.WAN_SIG, bytes(31) + b"\x02")
    (r1, s1), (r2, _), (r3, s3) = (
        (int.from_bytes(plain[:32], "big"), int.from_bytes(plain[32:], "big")) for plain in (*same, other)
    )
    assert len({r1, r2, r3}) == 3
    nonce = (1 - 2) * pow(s1 - s3, -1, order) % order
    scalar = (nonce * s1 - 1) * pow(r1, -1, order) % order
    assert curves.multiply(CURVE, scalar) != key.point


def test_the_host_refuses_the_unseeded_generator(build: Build, tmp_path: Path) -> None:
    ours, library = build.class_path.split(":")
    jars = sorted(Path(library).parent.glob("*.jar"))
    wrong = Build(build.java, ":".join((*map(str, jars), ours)))
    with pytest.raises(AppletBroken, match="unseeded generator comes first"):
        AppletCard(wrong, tmp_path, pin=PIN).start()


async def test_a_wrong_pin_uses_a_try_up_for_good(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    for left in (2, 1):
        with AppletCard(build, folder, pin=PIN) as card:
            session = ModuleSession(lambda card=card: TcpTransport(card.port), lambda: b"0000000000")
            with pytest.raises(PinRefused) as caught:
                await session.__aenter__()
            assert caught.value.attempts_left == left
    with AppletCard(build, folder, pin=PIN) as card, pytest.raises(PinRefused, match="not tried"):
        await session_on(card).__aenter__()


def test_a_damaged_card_does_not_start(build: Build, tmp_path: Path) -> None:
    with AppletCard(build, tmp_path, pin=PIN):
        pass
    state = tmp_path / "card"
    assert state.stat().st_mode & 0o777 == 0o600
    content = bytearray(state.read_bytes())
    content[5] = 3
    content[7] ^= 1
    state.write_bytes(content)
    with pytest.raises(AppletBroken, match="damaged"):
        AppletCard(build, tmp_path, pin=PIN).start()


def test_one_card_runs_once(applet: AppletCard, build: Build, tmp_path: Path) -> None:
    with pytest.raises(AppletBroken, match="another process"):
        AppletCard(build, tmp_path / "card", pin=PIN).start()


def test_a_pin_that_is_none_makes_no_card(build: Build, tmp_path: Path) -> None:
    with pytest.raises(AppletBroken, match="no PACE-PIN"):
        AppletCard(build, tmp_path, pin=b"12345").start()
    assert not (tmp_path / "card").exists()


def test_the_card_calls_a_reader_that_waits(build: Build, tmp_path: Path) -> None:
    """The direction of connecting that vpcd usually asks for; the card calls again when hung up on."""
    with socket.create_server(("127.0.0.1", 0)) as reader:
        reader.settimeout(60)
        seen: list[bytes] = []

        def answer() -> None:
            for _ in range(2):
                connection, _ = reader.accept()
                with connection:
                    connection.sendall(b"\x00\x01\x04")
                    seen.append(connection.recv(64))

        thread = threading.Thread(target=answer)
        thread.start()
        with AppletCard(build, tmp_path, pin=PIN, reader_port=reader.getsockname()[1]):
            thread.join()
    assert seen[0].endswith(b"\x3b\x80\x80\x01\x01")
    assert len(seen) == 2


def test_the_host_ends_with_its_input(build: Build, tmp_path: Path) -> None:
    card = AppletCard(build, tmp_path, pin=PIN)
    card.start()
    process = card._process
    assert process is not None
    card.stop()
    assert process.returncode == 0


def test_random_bytes_leave_the_applet_alive(applet: AppletCard) -> None:
    """A seeded plain mutator on whole APDUs; afterwards the card serves, and no try of the PIN is gone."""
    line = Line(applet.port)
    line.reset()
    seeds = [
        bytes.fromhex(text)
        for text in (
            "00a4040c08f0534d475748534d",
            "00b0810004",
            "0c46820010871101" + "00" * 16,
            "0cb000000d9701088e080000000000000000" + "00",
            "00d60000000140" + "11" * 320,
            "002241b6038401" + "02",
        )
    ]
    state = 1
    for number in range(3000):
        raw = bytearray(seeds[number % len(seeds)])
        for _ in range(1 + number % 5):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            at, value = (state >> 32) % len(raw), state >> 56
            if value & 7 == 7 and len(raw) > 4:
                del raw[at:]
                raw += b"\x00" * max(0, 4 - len(raw))
            else:
                raw[at] = value
        if raw[1:3] == b"\x22\xc1":
            continue  # would start PACE
        answer = line.transmit(bytes(raw)) if len(raw) > 1 else b"\x67\x00"
        assert len(answer) >= 2
        assert answer[-2] & 0xF0 in (0x60, 0x90)
        assert answer[-2:] != Sw.INTERNAL.to_bytes(2, "big")
    line.reset()
    assert line.transmit(seeds[0]) == b"\x90\x00"
    assert line.transmit(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d")) == b"\x90\x00"
    line.close()


async def test_a_card_that_is_gone_is_unavailable(build: Build, tmp_path: Path) -> None:
    with AppletCard(build, tmp_path, pin=PIN) as card:
        port = card.port
    with pytest.raises(ModuleUnavailable):
        await TcpTransport(port).connect()


# --- the codings ---

_CONSTANT = re.compile(
    r"^    (?:byte|short) (\w+) = (?:\((?:byte|short)\) )?(0x[0-9A-Fa-f]+|\d+);$", re.MULTILINE
)
_OTHER_NAMES = {
    "EPHEMERAL_FIRST": PROJECT.ephemeral_references[0],
    "EPHEMERAL_COUNT": len(PROJECT.ephemeral_references),
    "SERVICE_FIRST": PROJECT.service_references[0],
    "SERVICE_COUNT": len(PROJECT.service_references),
    "CLA_PLAIN": 0x00,
    "CLA_CHAIN": 0x10,
    "CLA_SECURE": 0x0C,
    "P1P2_SELECT_NAME": 0x040C,
    "P1P2_SELECT_MASTER": 0x000C,
    "P1P2_SELECT_FILE": 0x020C,
    "SW_MORE": 0x6100,
    "P1P2_INCREASE": 0x0001,
}


def _expected(name: str) -> int:
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    if name.startswith("FILE_"):
        return int(DataObject[name[5:]])
    if name.startswith("SIZE_"):
        return PROJECT.files[DataObject[name[5:]]].size_bytes
    if name.startswith("PUBLIC_"):
        return PROJECT.public_references[PublicSlot[name[7:]]]
    if name.startswith("LIFE_"):
        return PROJECT.life_cycles[LifeCycle[name[5:]]]
    if name.startswith("SW_"):
        return Sw[name[3:]]
    if name.startswith("CURVE_"):
        return PROJECT.curve_ids[Curve[name[6:]]]
    value = getattr(PROJECT, name.lower())
    assert isinstance(value, int)
    return value


def test_the_codings_of_the_applet_are_the_profiles() -> None:
    folder = SOURCES / "src" / "main" / "java" / "smgw" / "applet"
    found = dict(_CONSTANT.findall((folder / "Codings.java").read_text(encoding="utf-8")))
    declared = re.findall(r"^    (?:byte|short) ", (folder / "Codings.java").read_text("utf-8"), re.MULTILINE)
    assert len(found) == len(declared) > 60
    assert {name: int(value, 0) for name, value in found.items()} == {name: _expected(name) for name in found}
    name = re.search(r"NAME = \{(.*)\}", (folder / "Commands.java").read_text(encoding="utf-8"))
    assert name is not None
    octets = [
        int(item, 0) if item.startswith("0x") else ord(item[1]) for item in re.findall(r"0x\w+|'.'", name[1])
    ]
    assert bytes(octets) == PROJECT.application


def test_the_access_rules_of_the_applet_are_the_emulated_cards() -> None:
    source = (SOURCES / "src/main/java/smgw/applet/Access.java").read_text(encoding="utf-8")
    numbers = re.findall(r"static final byte ([A-Z_]{2,}) = (\d+);", source)
    rows = re.findall(r"^ {8}([PGN]), ([PGN]), ([PGN]), // (\w+)$", source, re.MULTILINE)
    letters = {Right.PACE: "P", Right.GWA: "G", Right.NEVER: "N"}
    # What anybody may in every state has no row there; no applet is ever only initialised.
    wanted = {
        action.name: tuple(letters[right] for right in rights[1:])
        for action, rights in TABLE.items()
        if set(rights) != {Right.ALWAYS}
    }
    assert STATES[0] is LifeCycle.INITIALISED
    assert [(name, str(place)) for place, (*_, name) in enumerate(rows)] == numbers
    assert {name: tuple(rights) for *rights, name in rows} == wanted


def test_the_applet_uses_what_a_card_has() -> None:
    folder = SOURCES / "src" / "main" / "java" / "smgw" / "applet"
    for source in folder.glob("*.java"):
        text = source.read_text(encoding="utf-8")
        assert re.findall(r"^import (?!javacardx?\.).*$", text, re.MULTILINE) == [], source.name
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
        assert not re.search(r"\b(int|long|float|double|char|String|Integer)\b", code), source.name
