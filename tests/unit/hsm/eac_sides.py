"""libeac in either part of a PACE run and of the secure messaging after it, for the tests of this folder."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Generator

from hsm import tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve
from hsm.emulator.card import PowerEvent
from hsm.profile import DOMAIN_IDS, PROJECT
from hsm.suites import Suite, pad
from tests.peers.eac import Eac

Run = Generator[bytes, bytes, bytes]
GET_CHALLENGE = b"\x0c\x84\x00\x00"
_TRIES_LEFT = 2


def card_access(suite: Suite, curve: Curve) -> bytes:
    """SecurityInfos with one PACEInfo, version 2."""
    inner = b"\x06\x0a" + suite.oid + b"\x02\x01\x02\x02\x01" + bytes((DOMAIN_IDS[curve],))
    info = b"\x30" + bytes((len(inner),)) + inner
    return b"\x31" + bytes((len(info),)) + info


def value(answer: bytes, tag: int) -> bytes:
    """What one step of PACE answers."""
    response = ResponseApdu.from_bytes(answer)
    assert response.sw == 0x9000, f"{response.sw:04x}"
    return tlv.unwrap(tag, tlv.unwrap(0x7C, response.data))


def _command(step: int, content: bytes | None, cla: int = 0x10) -> bytes:
    inner = b"" if content is None else tlv.encode(step, content)
    return CommandApdu(cla, 0x86, 0, 0, tlv.encode(0x7C, inner), 256).to_bytes()


def terminal_pace(party: Eac, suite: Suite, curve: Curve) -> Run:
    """PACE with libeac as the terminal: yields commands, takes answers, returns the last one."""
    choice = tlv.encode(0x80, suite.oid) + b"\x83\x01\x03" + b"\x84\x01" + bytes((DOMAIN_IDS[curve],))
    assert (yield CommandApdu(0, 0x22, 0xC1, 0xA4, choice).to_bytes())[-2:] in (b"\x90\x00", b"\x63\xc2")
    party.take_nonce(value((yield _command(0, None)), 0x80))
    own = party.mapping()
    party.map(value((yield _command(0x81, own)), 0x82))
    own = party.ephemeral()
    party.agree(value((yield _command(0x83, own)), 0x84))
    return (yield _command(0x85, party.token(), 0x00))


def terminal_random(party: Eac, count: int) -> Run:
    """GET CHALLENGE under libeac's secure messaging: returns the random bytes, without their padding."""
    party.step()
    objects = bytes((0x97, 1, count & 0xFF))
    body = objects + tlv.encode(0x8E, party.authenticate(pad(GET_CHALLENGE) + pad(objects)))
    answer = ResponseApdu.from_bytes((yield CommandApdu(*GET_CHALLENGE, body, 256).to_bytes()))
    party.step()
    found = tlv.parse(answer.data)
    assert [tag for tag, _ in found] == [0x87, 0x99, 0x8E]
    assert found[1][1] == b"\x90\x00"
    assert party.authenticate(pad(answer.data[:-10])) == found[2][1]
    plain = party.decrypt(found[0][1][1:]).rstrip(b"\x00")
    assert plain[-1:] == b"\x80"
    return plain[:-1]


def drive(run: Run, transmit: Callable[[bytes], bytes]) -> bytes:
    """Run a terminal's part over a line."""
    try:
        command = next(run)
        while True:
            command = run.send(transmit(command))
    except StopIteration as done:
        result: bytes = done.value
        return result


class EacCard:
    """A card whose PACE and secure messaging are libeac's. Serves SELECT, PACE and GET CHALLENGE, no more.

    Can be shown to any reader (`hsm.emulator.vpcd`). `sessions` counts PACE runs, `handed_out` is what
    GET CHALLENGE answered.
    """

    atr = bytes.fromhex("3b80800101")

    def __init__(self, suite: Suite, curve: Curve, pin: bytes) -> None:
        self._access, self._pin = card_access(suite, curve), pin
        self._party: Eac | None = None
        self._protected = False
        self.sessions = 0
        self.handed_out: list[bytes] = []

    def power(self, _event: PowerEvent) -> None:
        """The session is gone."""
        self.close()

    def close(self) -> None:
        """Give libeac's context back."""
        party, self._party, self._protected = self._party, None, False
        if party is not None:
            party.close()

    def apdu(self, raw: bytes) -> bytes:
        """Answer a command."""
        command = CommandApdu.from_bytes(raw)
        if command.cla & 0x0C:
            return self._secured(command)
        if command.ins == PROJECT.ins_select:
            return b"\x90\x00"
        if command.header == b"\x00\x22\xc1\xa4":
            self.close()
            self._party = Eac(self._access, self._pin)
            return b"\x90\x00"
        if command.ins == PROJECT.ins_general_authenticate and self._party is not None:
            return self._step(self._party, tlv.parse(tlv.unwrap(0x7C, command.data)))
        return b"\x6d\x00"

    def _step(self, party: Eac, objects: list[tuple[int, bytes]]) -> bytes:
        tag, sent = objects[0] if objects else (0, b"")
        if tag == 0:
            tag, answer = 0x80, party.nonce()
        elif tag == 0x81:
            tag, answer = 0x82, party.mapping()
            party.map(sent)
        elif tag == 0x83:
            tag, answer = 0x84, party.ephemeral()
            party.agree(sent)
        elif not party.check(sent):
            return bytes((0x63, 0xC0 | _TRIES_LEFT))
        else:
            tag, answer = 0x86, party.token()
            party.start_messaging()
            self._protected = True
            self.sessions += 1
        return tlv.encode(0x7C, tlv.encode(tag, answer)) + b"\x90\x00"

    def _secured(self, command: CommandApdu) -> bytes:
        party = self._party
        if party is None or not self._protected:
            return b"\x69\x82"
        party.step()
        covered, objects = command.data[:-10], dict(tlv.parse(command.data))
        mac = party.authenticate(pad(command.header) + (pad(covered) if covered else b""))
        if not hmac.compare_digest(mac, objects.get(0x8E, b"")):
            self.close()
            return b"\x69\x88"
        party.step()
        answer, status = b"", b"\x6d\x00"
        if command.ins == PROJECT.ins_get_challenge:
            self.handed_out.append(os.urandom(objects[0x97][0] or 256))
            answer = tlv.encode(0x87, b"\x01" + party.encrypt(pad(self.handed_out[-1])))
            status = b"\x90\x00"
        answer += tlv.encode(0x99, status)
        return answer + tlv.encode(0x8E, party.authenticate(pad(answer))) + b"\x90\x00"
