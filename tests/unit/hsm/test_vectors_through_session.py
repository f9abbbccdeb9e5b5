"""The published runs through the asyncio session: a scripted transport plays the card, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hsm import curves, suites, tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve, KeySlot
from hsm.channel import Operation
from hsm.emulator.state import CardState, StoredKey
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import ModuleUnavailable, UnexpectedResponse
from hsm.profile import Profile
from hsm.session import ModuleSession, Priority
from tests.support.card import PIN, make_card
from tests.support.vectors import load, vectors


class Script:
    """A `CardTransport` that expects commands and gives answers."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self.lines = lines
        self.at = 0

    async def connect(self) -> None:
        self.at = 0

    async def transmit(self, command: bytes) -> bytes:
        if self.at == len(self.lines):
            raise ModuleUnavailable("the script is over")
        expected, answer = self.lines[self.at]
        assert command.hex() == expected, f"line {self.at}"
        self.at += 1
        return bytes.fromhex(answer)

    async def close(self) -> None:
        pass


def draws(case: dict[str, str]) -> Iterator[bytes]:
    yield bytes.fromhex(case["sk_map_ifd"])
    yield bytes.fromhex(case["sk_ifd"]).rjust(32, b"\x00")


def dynamic(tag: int, value: str) -> str:
    return tlv.encode(0x7C, tlv.encode(tag, bytes.fromhex(value))).hex()


def general_authenticate(cla: int, data: str) -> str:
    return f"{cla:02x}860000{len(data) // 2:02x}{data}00"


def pace_script(case: dict[str, str]) -> list[tuple[str, str]]:
    reference = int(case["password_reference"])
    step = general_authenticate
    return [
        ("00a4040c08f0534d475748534d", "9000"),
        (f"0022c1a412800a04007f000702020402028301{reference:02x}84010d", "9000"),
        ("10860000027c0000", dynamic(0x80, case["z"]) + "9000"),
        (
            general_authenticate(0x10, dynamic(0x81, case["pk_map_ifd"])),
            dynamic(0x82, case["pk_map_ic"]) + "9000",
        ),
        (step(0x10, dynamic(0x83, case["pk_ifd"])), dynamic(0x84, case["pk_ic"]) + "9000"),
        (step(0x00, dynamic(0x85, case["t_ifd"])), dynamic(0x86, case["t_ic"]) + "9000"),
    ]


def session(case: dict[str, str], script: Script) -> ModuleSession:
    source = draws(case)
    return ModuleSession(
        lambda: script,
        lambda: bytes.fromhex(case["password"]),
        draw=lambda count: next(source)[-count:],
        profile=Profile(password_reference=int(case["password_reference"])),
        first_pause_s=0.01,
    )


@vectors("hsm/pace_icao.json")
async def test_icao_through_the_session(case: dict[str, str]) -> None:
    script = Script(pace_script(case))
    async with session(case, script) as module:
        assert module.statistics.sessions == 1
        assert script.at == 6


@vectors("hsm/pace_bsi.json")
async def test_bsi_through_the_session(case: dict[str, str]) -> None:
    script = Script(pace_script(case))
    async with session(case, script) as module:
        assert module.statistics.sessions == 1


@vectors("hsm/secure_messaging.json")
async def test_secure_messaging_after_the_icao_run(case: dict[str, Any]) -> None:
    """The published commands and answers under the keys of the published run, in one session."""
    icao = load("hsm/pace_icao.json")["cases"][0]
    exchanges = case["exchanges"]
    script = Script(
        pace_script(icao) + [(exchange["command"], exchange["response"]) for exchange in exchanges]
    )

    def asked(exchange: dict[str, Any]) -> Operation[ResponseApdu]:
        header = bytes.fromhex(exchange["header"])
        return (yield CommandApdu(*header, bytes.fromhex(exchange["data"]), exchange["le"]))

    async with session(icao, script) as module:
        for exchange in exchanges:
            answer = await module.submit(
                lambda _, exchange=exchange: asked(exchange), Priority.NORMAL, 5.0, repeatable=False
            )
            assert answer.data.hex() == exchange["response_data"]
            assert f"{answer.sw:04x}" == exchange["sw"]
        assert script.at == len(script.lines)


@vectors("hsm/ecka_bsi.json")
async def test_an_agreement_with_a_key_in_the_card(case: dict[str, str]) -> None:
    """The published private key in a slot of the emulated card: Z by ECKA-EG, then keys and token of it."""
    curve = Curve(case["curve"])
    point = curves.multiply(curve, int(case["sk_eph"], 16))

    def put(state: CardState) -> None:
        state.keys[KeySlot.WAN_ENC] = StoredKey(curve.value, bytes.fromhex(case["sk_eph"]), point)

    card, _ = make_card(change=put)
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module:
        z = await module.agree(KeySlot.WAN_ENC, bytes.fromhex(case["pk_static"]))
    assert z.hex() == case["z"]
    salted = z + bytes.fromhex(case["r"])
    enc, mac = (suites.derive(suites.AES128, salted, counter) for counter in (1, 2))
    assert (enc.hex(), mac.hex()) == (case["enc"], case["mac"])
    of_chip = bytes.fromhex("04007f00070202030202")  # id-CA-ECDH-AES-CBC-CMAC-128
    message = tlv.encode(0x7F49, tlv.encode(0x06, of_chip) + tlv.encode(0x86, point))
    assert suites.cmac(mac, message)[:8].hex() == case["token"]


@pytest.mark.parametrize("key", ["t_ic", "pk_ic"])
async def test_a_script_that_deviates_is_refused(key: str) -> None:
    case = dict(load("hsm/pace_icao.json")["cases"][0])
    spoiled = bytearray.fromhex(case[key])
    spoiled[-1] ^= 1
    case[key] = spoiled.hex()
    with pytest.raises(UnexpectedResponse):
        async with session(case, Script(pace_script(case))):
            pass
