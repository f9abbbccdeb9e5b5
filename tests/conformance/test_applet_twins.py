"""The emulated card and the applet side by side: the same commands, in every state, the same answers.

Two programs by different means agree on status words and lengths, and on what is kept; whether that is right
is judged elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils

from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve, KeySlot, LifeCycle, ModuleStatus, PublicSlot
from hsm.channel import Operation
from hsm.client import ModuleClient
from hsm.emulator.card import PowerEvent
from hsm.errors import CommandRefused
from tests.support.applet import PIN, Line, built, require_tools
from tests.support.card import Terminal, make_card
from tests.support.soft_module import CURVES, public_of
from tests.unit.hsm.test_trust import HASHES, certificate, unwrapped
from tools.counterparts.applet_card import AppletCard

require_tools()
pytestmark = pytest.mark.timeout(900)  # the build, if nobody made it before

ROOT, SUB_CA, OWNER, RECEIVER = (
    ec.generate_private_key(curve)
    for curve in (ec.BrainpoolP384R1(), ec.SECP384R1(), ec.BrainpoolP256R1(), ec.BrainpoolP256R1())
)


class AppletEnd:
    """The applet as a card object: what `Terminal` drives."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def apdu(self, raw: bytes) -> bytes:
        return self._line.transmit(raw)

    def power(self, _: PowerEvent) -> None:
        self._line.reset()


@dataclass(slots=True)
class Twins:
    """Both cards, each with its own terminal."""

    emulated: Terminal
    applet: Terminal

    @property
    def ends(self) -> tuple[Terminal, Terminal]:
        return self.emulated, self.applet

    def reset(self) -> None:
        for end in self.ends:
            end.channel.close()
            end.card.power(PowerEvent.RESET)

    def log_in(self, pin: bytes = PIN) -> None:
        self.reset()
        for end in self.ends:
            end.log_in(pin)

    def agree(self, header: str, body: str = "", le: int | None = None) -> int:
        """Send one protected command to both; the status word they agree on."""
        command = CommandApdu(*bytes.fromhex(header), bytes.fromhex(body), le)
        answers = [end.run(_once(command)) for end in self.ends]
        seen = [(f"{answer.sw:04x}", len(answer.data)) for answer in answers]
        assert seen[0] == seen[1], f"{header} {body} {le}: the emulated card {seen[0]}, the applet {seen[1]}"
        return answers[0].sw

    def agree_in_the_clear(self, raw: str) -> None:
        seen = [end.card.apdu(bytes.fromhex(raw)) for end in self.ends]
        assert seen[0][-2:] == seen[1][-2:], f"{raw}: {seen[0][-2:].hex()}, {seen[1][-2:].hex()}"
        assert len(seen[0]) == len(seen[1])

    def status(self) -> ModuleStatus:
        first, second = (end.run(end.client.status()) for end in self.ends)
        assert first.life_cycle is second.life_cycle
        assert (first.keys, first.public_keys) == (second.keys, second.public_keys)
        assert first.deactivated == second.deactivated
        assert (first.tries_left, first.tries) == (second.tries_left, second.tries)
        return second

    def authenticate(self) -> None:
        for end in self.ends:
            _administer(end)


def _once(command: CommandApdu) -> Operation[ResponseApdu]:
    return (yield command)


def _signed(message: bytes) -> bytes:
    """The administrator's r | s."""
    r, s = utils.decode_dss_signature(OWNER.sign(message, ec.ECDSA(HASHES[32])))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _administer(end: Terminal) -> None:
    message = end.run(end.client.administrator_challenge())
    assert end.run(end.client.authenticate_administrator(_signed(message)))


def _introduce(client: ModuleClient) -> Iterator[Operation[None]]:
    """Root, sub-CA, administrator."""
    slot = PublicSlot
    yield client.import_certificate(slot.ROOT, *certificate(ROOT, ROOT), slot.ROOT)
    yield client.import_certificate(slot.ROOT, *certificate(SUB_CA, ROOT), None)
    owner = certificate(OWNER, SUB_CA, ca=False)
    yield client.import_certificate(slot.VERIFIED, *owner, slot.ADMINISTRATOR)


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    with AppletCard(built(), tmp_path / "card", pin=PIN) as running:
        line = Line(running.port)
        pair = Twins(Terminal(make_card()[0]), Terminal(AppletEnd(line)))  # type: ignore[arg-type]
        pair.log_in()
        yield pair
        line.close()


_POINT = public_of(RECEIVER).point.hex()
_FOR_RECEIVER = f"7f494680010d8641{_POINT}"
Probe = tuple[str, str, int | None]


def _probes() -> list[Probe]:
    """Every instruction, right and wrong, with every kind of key; nothing that ends the card."""
    probes: list[Probe] = [
        ("00a4040c", "f0534d475748534e", None),
        ("00a4000c", "3f00", None),
        ("00e00000", "62088302020180020010", None),
        ("00e00000", "62088302020280020008", None),
        ("00e00000", "62088302010180020010", None),
        ("00e00000", "62088302000080020010", None),
        ("00e00000", "62088302020380020000", None),
        ("00e00000", "6208830202038003ffffff", None),
        ("00e00000", "620483020203", None),
        ("00e40000", "620483020201", None),
        ("00e40000", "620483020202", None),
        ("00e40000", "6203830102", None),
        ("00e40000", "620483020104", None),
        ("00e80000", "", None),
        ("00b00000", "", 8),
        ("00b00004", "", 32),
        ("00b08600", "", 4),
        ("00b09f00", "", 4),
        ("00b10201", "540100", 6),
        ("00d60000", "0000", None),
        ("00d60008", "aabb", None),
        ("00d60000", "", None),
        ("00320001", "", 8),
        ("00320000", "", 8),
        ("00840000", "", 8),
        ("00880000", "11" * 16, 256),
        ("00880000", "11" * 7, 256),
        ("00880001", "11" * 16, 256),
        ("00820000", "00" * 64, None),
        ("00820000", "00" * 63, None),
        ("00820001", "00" * 64, None),
        ("002a9e9a", "11" * 32, 256),
        ("002a9e9a", "11" * 32, None),
        ("002a8680", "00", 256),
        ("002a8680", "", None),
        ("002a00be", "7f4e0030", None),
        ("002a00be", "7f4e0230005f370100", None),
        ("002a00be", "7f4e0230005f3701005f200138", None),
        ("002a00be", "7f4e0230005f3701005f200155", None),
        ("002a00a8", "9a20" + "00" * 32 + "9e40" + "11" * 64, None),
        ("002a00a8", "9a20" + "00" * 32 + "9e3f" + "11" * 63 + _FOR_RECEIVER, None),
        ("002a00a8", "9a1f" + "00" * 31 + "9e40" + "11" * 64 + _FOR_RECEIVER, None),
        ("002a1234", "", None),
        ("00221234", "840101", None),
        ("00860000", f"7c438541{_POINT}", 256),
        ("00860001", f"7c438541{_POINT}", 256),
        ("10860000", f"7c438541{_POINT}", 256),
        ("00240003", "39" * 5, None),
        ("00240103", "39" * 9, None),
        ("00240103", PIN.hex(), None),
        ("00240003", (PIN + PIN).hex(), None),
        ("00240203", PIN.hex(), None),
        ("00240105", PIN.hex(), None),
        ("002c0303", "", None),
        ("002c0303", "00", None),
        ("002c0203", PIN.hex(), None),
        ("002c0203", "39" * 9, None),
        ("002c0103", "", None),
        ("002c0305", "", None),
        ("00fe0000", "00", None),
        ("00e60001", "", None),
        ("00440003", "", None),
        ("0044000c", "", None),
        ("00440077", "", None),
        ("00441003", "", None),
        ("00441005", "", None),
        ("00443001", "", None),
        ("00440013", "00", None),
        ("00041003", "00", None),
        ("00041005", "", None),
        ("00042002", "", None),
        ("004420b1", "", None),
        ("00442031", "", None),
        ("00e40000", "830138", None),
        ("00e40000", "830131", None),
        ("00e40000", "8301b1", None),
        ("00e40000", "830232", None),
        ("00e40001", "840160", None),
        ("00e40000", "850160", None),
        ("00e40000", "", None),
        ("002281a4", "830132", None),
        ("002281a4", "830131", None),
        ("002281b6", "830131", None),
        ("002281b6", "83013f", None),
        ("002281b6", "830155", None),
        ("00ca0000", "", 256),
        ("00c20000", "00", None),
    ]
    for file in ("011c", "0101", "0102", "0103", "0104", "0105", "0201", "0202", "0299"):
        probes.append(("00a4020c", file, None))
    for reference in ("01", "81", "08", "88", "10", "90", "50", "53", "60", "67", "68", "d0", "ff"):
        for p1 in ("82", "c2"):
            probes.append((f"0046{p1}00", f"b6068401{reference}80010d", 256))
        probes.append(("00468200", f"b64f8401{reference}80010d{_FOR_RECEIVER}", 256))
        probes.append(("00468100", f"b6038401{reference}", 256))
        for how in ("b6", "a6", "b8", "a4"):
            probes.append((f"002241{how}", f"8401{reference}", None))
        probes.append((f"004420{reference}", "", None))
        probes.append((f"004421{reference}", "", None))
        probes.append((f"000421{reference}", "", None))
        probes.append(("00e40000", f"8401{reference}", None))
    return probes


PROBES = _probes()
ENDS_ADMINISTRATION: Probe = ("002281a4", "830132", None)


def _walk(twins: Twins, seed: int, *, administrator: bool = False) -> int:
    """Every probe twice, shuffled; returns how many were answered 9000. The administrator stays known."""
    if administrator:
        twins.authenticate()
    taken = 0
    shuffler = random.Random(seed)
    for _ in range(2):
        for probe in shuffler.sample(PROBES, len(PROBES)):
            if not (administrator and probe == ENDS_ADMINISTRATION):
                taken += twins.agree(*probe) == 0x9000
    twins.status()
    return taken


def test_both_cards_answer_alike_in_every_state(twins: Twins) -> None:
    taken = [_walk(twins, 1)]
    assert (
        twins.agree("00440015") == 0x6985
    )  # without root and administrator nobody could change anything again
    for end in twins.ends:
        for step in _introduce(end.client):
            end.run(step)
    taken.append(_walk(twins, 2))
    # The end of a life is for the administrator, in operation.
    assert twins.agree("00fe0000") == 0x6985
    assert twins.agree("00440005") == 0x6985  # no state is skipped
    assert twins.agree("00440015") == 0x9000
    twins.log_in()
    taken.append(_walk(twins, 3))
    assert twins.agree("00440005") == 0x6982
    taken.append(_walk(twins, 4, administrator=True))
    assert twins.agree("00440005") == 0x9000
    twins.log_in()
    taken.append(_walk(twins, 5))
    assert twins.agree("00e60000") == 0x6982
    taken.append(_walk(twins, 6, administrator=True))
    status = twins.status()
    assert status.life_cycle is LifeCycle.OPERATIONAL
    assert {PublicSlot.ROOT, PublicSlot.ADMINISTRATOR} <= status.public_keys
    assert min(taken) > 40
    assert twins.agree("00fe0000") == 0x9000
    for header, _, _ in PROBES[:10]:
        assert twins.agree(header) == 0x6985
    twins.reset()
    twins.agree_in_the_clear("00a4040c08f0534d475748534d")
    twins.agree_in_the_clear("00c200000400840000")


def test_both_cards_answer_alike_in_the_clear(twins: Twins) -> None:
    for header, body, le in PROBES:
        command = CommandApdu(*bytes.fromhex(header), bytes.fromhex(body), le).to_bytes()
        twins.reset()
        twins.agree_in_the_clear(command.hex())
        if len(command) < 256:
            twins.agree_in_the_clear(f"00c20000{len(command):02x}{command.hex()}00")


def test_a_protected_command_in_envelopes(twins: Twins) -> None:
    """Envelopes do not end a session; half a command is forgotten with any other one."""
    end, card = twins.applet, twins.applet.card
    select = CommandApdu(0x00, 0xA4, 0x02, 0x0C, bytes.fromhex("0104"))
    challenge = CommandApdu(0x00, 0x84, 0x00, 0x00, b"", 8)

    class Enveloping:
        def apdu(self, raw: bytes) -> bytes:
            assert raw[0] == 0x0C
            first, second = raw[:7], raw[7:]
            assert card.apdu(bytes((0x10, 0xC2, 0, 0, len(first))) + first) == b"\x90\x00"
            return card.apdu(bytes((0x00, 0xC2, 0, 0, len(second))) + second + b"\x00")

    end.card = Enveloping()  # type: ignore[assignment]
    assert end.run(_once(select)).sw == 0x9000
    end.card = card
    assert end.run(_once(challenge)).sw == 0x9000
    assert card.apdu(bytes.fromhex("10c200000300b000")) == b"\x90\x00"
    assert end.run(_once(challenge)).sw == 0x9000
    # The end of the command alone is no command, and that ends the session as it does without an envelope.
    assert card.apdu(bytes.fromhex("00c20000020010")) == b"\x67\x00"
    assert card.apdu(bytes.fromhex("0cb000000d9701088e08000000000000000000")) == b"\x69\x88"


def test_a_service_key_of_the_applet_is_unwrapped_by_its_receiver(twins: Twins) -> None:
    """pyca is the receiver, for each length of a scalar."""
    end = twins.applet
    receiver = ec.generate_private_key(ec.BrainpoolP512R1())
    for curve in Curve:
        reference, public = end.run(end.client.generate_service_key(curve, public_of(receiver)))
        out = end.run(end.client.export_service_key(reference))
        scalar = unwrapped(receiver, out.ephemeral_point, out.wrapped, public.point)
        assert len(scalar) == curve.field_bytes
        private = ec.derive_private_key(int.from_bytes(scalar, "big"), CURVES[curve])
        assert public_of(private) == public
        with pytest.raises(CommandRefused, match="6A88"):
            end.run(end.client.export_service_key(reference))
    assert end.run(end.client.status()).keys == frozenset()


def test_every_byte_of_a_certificate_counts_to_the_applet(twins: Twins) -> None:
    end, slot = twins.applet, PublicSlot
    for step in _introduce(end.client):
        end.run(step)
    tbs, signature = certificate(SUB_CA, ROOT)
    for at in range(len(tbs)):
        spoiled = tbs[:at] + bytes((tbs[at] ^ 1,)) + tbs[at + 1 :]
        with pytest.raises(CommandRefused, match=r"6300|6A80"):
            end.run(end.client.import_certificate(slot.ROOT, spoiled, signature, slot.PEER_1))
    for cut in range(0, len(tbs), 5):
        with pytest.raises(CommandRefused, match=r"6300|6A80"):
            end.run(end.client.import_certificate(slot.ROOT, tbs[:cut], signature, slot.PEER_1))
    with pytest.raises(CommandRefused, match="6A80"):  # an end entity is no issuer
        end.run(end.client.import_certificate(slot.ROOT, *certificate(OWNER, ROOT, ca=False), None))
    assert slot.PEER_1 not in end.run(end.client.status()).public_keys


def test_a_blocked_pin_is_reset_by_the_administrator_in_the_clear(twins: Twins) -> None:
    for end in twins.ends:
        for step in _introduce(end.client):
            end.run(step)
    wrong = (b"0" * len(PIN) + PIN).hex()
    assert [twins.agree("00240003", wrong) for _ in range(3)] == [0x63C2, 0x63C1, 0x6983]
    assert twins.agree("00240003", (PIN + PIN).hex()) == 0x6983
    assert twins.agree("00440015") == 0x9000
    serials = [end.run(end.client.status()).serial for end in twins.ends]
    twins.reset()
    twins.agree_in_the_clear("002c0303")
    for end, serial in zip(twins.ends, serials, strict=True):
        card = end.card
        assert card.apdu(bytes.fromhex("002281a403830132")) == b"\x90\x00"
        challenge = card.apdu(bytes.fromhex("0084000008"))[:-2]
        signature = _signed(b"\xf0SMGWHSM" + serial + challenge)
        assert card.apdu(bytes.fromhex("0082000040") + signature) == b"\x90\x00"
        assert card.apdu(bytes.fromhex("002c0303")) == b"\x90\x00"
    twins.log_in()
    assert twins.status().tries_left == 3


def test_the_administrators_signature_is_for_one_card_and_one_challenge(twins: Twins) -> None:
    for end in twins.ends:
        for step in _introduce(end.client):
            end.run(step)
    messages = [end.run(end.client.administrator_challenge()) for end in twins.ends]
    assert messages[0][:16] != messages[1][:16]  # application and serial number
    signature = _signed(messages[0])
    assert not twins.applet.run(twins.applet.client.authenticate_administrator(signature))
    assert twins.emulated.run(twins.emulated.client.authenticate_administrator(signature))
    assert twins.agree("00820000", signature.hex()) == 0x6985  # a challenge is used up, right or wrong


def test_a_pin_of_another_length_lasts(twins: Twins) -> None:
    new = b"98765432109876"
    assert twins.agree("00240003", (PIN + new).hex()) == 0x9000
    twins.log_in(new)
    assert twins.agree("00240003", (b"1" * len(new) + PIN).hex()) == 0x63C2
    assert twins.status().tries_left == 2
    assert twins.agree("00240003", (new + PIN).hex()) == 0x9000
    twins.log_in()
    assert KeySlot.WAN_SIG not in twins.status().keys


def test_a_deactivated_successor_stays_deactivated(twins: Twins) -> None:
    """Activating its slot needs no administrator for a key of a DC-net, deactivating does."""
    for end in twins.ends:
        for step in _introduce(end.client):
            end.run(step)
    assert twins.agree("00440015") == 0x9000
    twins.authenticate()
    assert twins.agree("00468200", "b60684019080010d", 256) == 0x9000
    assert twins.agree("00042190") == 0x9000
    assert twins.agree("00442010") == 0x9000
    assert twins.status().deactivated == frozenset({KeySlot.DCNET_1})
    assert twins.agree("002241b6", "840110") == 0x9000
    assert twins.agree("002a9e9a", "00" * 32, 256) == 0x6984
    assert twins.agree("00442110") == 0x9000
    assert twins.agree("002a9e9a", "00" * 32, 256) == 0x9000
