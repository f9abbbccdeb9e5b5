"""Runs the table of `tests.conformance.table` against any card that is a function from bytes to bytes.

    card = CardUnderTest(transmit, reset, PIN)
    for case in CASES: run_case(case, card)

`transmit(bytes) -> bytes` sends one APDU; `reset()` powers the card anew, so that no session is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature

from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve
from hsm.host_random import host_random
from hsm.messaging import SecureMessaging
from hsm.pace import Password, Scalars, establish
from hsm.profile import PROJECT, Profile
from hsm.suites import AES128, SUITES, Suite
from hsm.tlv import encode, parse
from tests.conformance.table import Case, Raw, Send, Step, Tamper

Values = dict[str, bytes]
_HOLE = re.compile(r"\{(\w+)(?::(\d+))?\}")


class Deviation(AssertionError):
    """The card answered something else than the table says."""


@dataclass(slots=True)
class CardUnderTest:
    """A pre-personalised card with its PIN.

    Attributes:
        suites, curves: what this card can do; cases that need more are not for it (`fits`).
        groups: groups of cases it is meant to serve; None for all.
    """

    transmit: Callable[[bytes], bytes]
    reset: Callable[[], None]
    pin: bytes
    suites: frozenset[Suite] = frozenset(SUITES)
    curves: frozenset[Curve] = frozenset(Curve)
    groups: frozenset[str] | None = None
    profile: Profile = field(default=PROJECT)

    def fits(self, case: Case) -> bool:
        """True if the case asks for nothing that this card is known to lack."""
        return (
            case.suite in self.suites
            and case.curves <= self.curves
            and (self.groups is None or case.group in self.groups)
        )


class _Run:
    """One case on one card."""

    def __init__(self, case: Case, card: CardUnderTest) -> None:
        self._case, self._card = case, card
        self._messaging: SecureMessaging | None = None
        self.values: Values = {"pin": card.pin}

    def go(self) -> None:
        self._card.reset()
        if self._case.protected:
            self._log_in()
        try:
            self._steps()
        finally:
            if self._case.group == "pace" and not self._case.protected:
                # An unfinished run has used a try of the PIN up; a finished one gives it back.
                self._card.reset()
                self._log_in()

    def _steps(self) -> None:
        for number, step in enumerate(self._case.steps, 1):
            place = f"{self._case.name}, step {number}"
            if isinstance(step, Send):
                response = self._send(step)
            elif isinstance(step, Raw):
                response = self._plain(bytes.fromhex(_fill(step.apdu, self.values)))
            elif isinstance(step, Tamper):
                response = self._tampered(step)
            else:
                try:
                    step.check(self.values)
                except (ValueError, InvalidSignature) as error:
                    raise Deviation(f"{place}: {error!r}") from error
                continue
            self._compare(place, step, response)

    def _compare(self, place: str, step: Step, response: ResponseApdu) -> None:
        wanted = step.sw if isinstance(step.sw, tuple) else (step.sw,)
        if f"{response.sw:04x}" not in wanted:
            raise Deviation(f"{place}: SW {response.sw:04x}, expected {' or '.join(wanted)}")
        if step.data is not None:
            match_data(step.data, response.data, self.values, place)

    def _log_in(self) -> None:
        profile = self._card.profile
        select = bytes((0x00, profile.ins_select, 4, 0x0C, len(profile.application))) + profile.application
        if (answer := self._plain(select)).sw != 0x9000:
            raise Deviation(f"{self._case.name}: SELECT answers {answer.sw:04x}")
        curve = self._case.pace_curve
        run = establish(
            Password(profile.password_reference, self._card.pin),
            Scalars.draw(curve, host_random),
            suite=self._case.suite,
            curve=curve,
            profile=profile,
        )
        try:
            command = next(run)
            while True:
                command = run.send(self._plain(command.to_bytes()))
        except StopIteration as done:
            self._messaging = SecureMessaging(done.value)

    def _send(self, step: Send) -> ResponseApdu:
        data = bytes.fromhex(_fill(step.body, self.values))
        command = CommandApdu(*bytes.fromhex(step.header), data, step.le)
        if self._messaging is None:
            return self._plain(command.to_bytes())
        protected = self._messaging.wrap(command)
        return self._messaging.unwrap(self._plain(protected.to_bytes()))

    def _tampered(self, step: Tamper) -> ResponseApdu:
        """Send a command whose protection was spoiled; the answer must come in the clear."""
        assert self._messaging is not None
        wrapped = self._messaging.wrap(CommandApdu(*bytes.fromhex(step.header), b"", step.le))
        objects = step.change(parse(wrapped.data))
        body = b"".join(encode(tag, value) for tag, value in objects)
        raw = CommandApdu(wrapped.cla, wrapped.ins, wrapped.p1, wrapped.p2, body, wrapped.le)
        self._messaging = None
        return self._plain(raw.to_bytes())

    def _plain(self, raw: bytes) -> ResponseApdu:
        """One exchange; a long answer is collected by GET RESPONSE."""
        response = ResponseApdu.from_bytes(self._card.transmit(raw))
        data = response.data
        while response.sw >> 8 == 0x61 and not self._case.raw_chaining:
            response = ResponseApdu.from_bytes(self._card.transmit(bytes.fromhex("00c0000000")))
            data += response.data
        return ResponseApdu(data, response.sw)


def run_case(case: Case, card: CardUnderTest) -> None:
    """Run one case; raises `Deviation`, or an `HsmError` if the channel itself breaks."""
    _Run(case, card).go()


def _fill(template: str, values: Values) -> str:
    """Hex text with its holes filled by what was captured before."""
    return _HOLE.sub(lambda hole: values[hole[1]].hex(), template).replace(" ", "")


def match_data(template: str, data: bytes, values: Values, place: str) -> None:
    """Compare data with hex text; `{name:n}` takes n bytes or repeats what was taken; `{_:n}` is any."""
    at = 0
    text = template.replace(" ", "")
    for part in re.split(r"(\{[^}]*\})", text):
        if hole := _HOLE.fullmatch(part):
            name = hole[1]
            known = values.get(name) if name != "_" else None
            size = int(hole[2]) if hole[2] else len(known or b"")
            piece = data[at : at + size]
            if len(piece) != size or (known is not None and piece != known):
                raise Deviation(f"{place}: data {data.hex()} does not fit {template}")
            if known is None:
                values[name] = piece
        else:
            piece = bytes.fromhex(part)
            size = len(piece)
            if data[at : at + size] != piece:
                raise Deviation(f"{place}: data {data.hex()} does not fit {template}")
        at += size
    if at != len(data):
        raise Deviation(f"{place}: {len(data)} bytes of data, expected {at}")


__all__ = ["AES128", "CardUnderTest", "Deviation", "match_data", "run_case"]
