"""PACE, the terminal's end, as a generator: yields commands, takes responses, returns session keys.

TR-03110-3 v2.2, A.2 to A.3 and B.11.1 (id-PACE-ECDH-GM); ICAO Doc 9303-11 G.1 and BSI's worked example judge
it. Never does I/O, draws nothing itself, tries nothing twice.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Self

from hsm import curves
from hsm.apdu import CommandApdu, ResponseApdu, Sw
from hsm.api import Curve
from hsm.errors import (
    CommandRefused,
    MalformedResponse,
    MalformedTlv,
    PinRefused,
    PointRefused,
    UnexpectedResponse,
)
from hsm.profile import DOMAIN_IDS, PROJECT, Profile
from hsm.suites import AES128, BLOCK, MAC_BYTES, SessionKeys, Suite, crypt_nonce, session_keys, token
from hsm.tlv import encode, unwrap

MIN_TRIES = 2
"""PACE is not started with fewer tries left: the last one belongs to a human."""

_CHAINED, _LAST = 0x10, 0x00
_MAX_NONCE_BYTES = 64
# 6982 and 6985 are not among them: a card that lost power between two steps says that too.
_PIN_REFUSALS = frozenset({Sw.AUTHENTICATION_FAILED, Sw.BLOCKED})


@dataclass(frozen=True, slots=True, repr=False)
class Password:
    """The shared password: its reference on the card, and the octets that enter the KDF."""

    reference: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class _Step:
    """One GENERAL AUTHENTICATE: dynamic authentication data 7C with one object each way (or none)."""

    name: str
    cla: int
    send: int
    expect: int

    def to_command(self, profile: Profile, value: bytes | None) -> CommandApdu:
        inner = b"" if value is None else encode(self.send, value)
        return CommandApdu(self.cla, profile.ins_general_authenticate, 0, 0, encode(0x7C, inner), 256)

    def from_response(self, response: ResponseApdu) -> bytes:
        if response.sw != Sw.OK:
            raise CommandRefused(f"PACE {self.name}", response.sw)
        try:
            return unwrap(self.expect, unwrap(0x7C, response.data))
        except MalformedTlv as error:
            raise MalformedResponse(f"PACE {self.name}: {error}") from error


_NONCE = _Step("get nonce", _CHAINED, 0x00, 0x80)
_MAP = _Step("map nonce", _CHAINED, 0x81, 0x82)
_AGREE = _Step("key agreement", _CHAINED, 0x83, 0x84)
_CONFIRM = _Step("mutual authentication", _LAST, 0x85, 0x86)


@dataclass(frozen=True, slots=True)
class Scalars:
    """The two secret scalars of one run, injected so that published runs can be repeated."""

    mapping: int
    ephemeral: Callable[[], int]

    @classmethod
    def draw(cls, curve: Curve, source: Callable[[int], bytes]) -> Self:
        """Fresh scalars from a random source `source(count)`."""
        return cls(curves.draw_scalar(curve, source), lambda: curves.draw_scalar(curve, source))


def establish(
    password: Password,
    scalars: Scalars,
    *,
    suite: Suite = AES128,
    curve: Curve = Curve.BRAINPOOL_P256,
    profile: Profile = PROJECT,
) -> Generator[CommandApdu, ResponseApdu, SessionKeys]:
    """Run PACE once.

    Raises:
        PinRefused: the card refused the password, or fewer than `MIN_TRIES` tries are left (then nothing
            was tried: `tried` is False).
        CommandRefused: the card refused for a reason that is not the password.
        MalformedResponse, UnexpectedResponse: the card does not follow the protocol, or does not know the
            password itself.
    """
    _check_selection(
        (
            yield CommandApdu(
                0x00,
                profile.ins_mse,
                profile.p1p2_mse_pace >> 8,
                profile.p1p2_mse_pace & 0xFF,
                encode(0x80, suite.oid)
                + encode(0x83, bytes((password.reference,)))
                + encode(0x84, bytes((DOMAIN_IDS[curve],))),
            )
        )
    )
    response = yield _NONCE.to_command(profile, None)
    if response.sw == Sw.BLOCKED:
        raise PinRefused("the PACE-PIN is blocked", 0)
    cryptogram = _NONCE.from_response(response)
    if not cryptogram or len(cryptogram) % BLOCK or len(cryptogram) > _MAX_NONCE_BYTES:
        raise MalformedResponse("PACE nonce is not whole blocks")
    nonce = crypt_nonce(suite, password.secret, cryptogram, encrypt=False)

    own_map = curves.multiply(curve, scalars.mapping)
    peer_map = _MAP.from_response((yield _MAP.to_command(profile, own_map)))
    _check_differs(own_map, peer_map, "mapping")
    try:
        base = curves.map_generator(curve, nonce, curves.multiply(curve, scalars.mapping, peer_map))
        secret = scalars.ephemeral()
        own = curves.multiply(curve, secret, base)
        peer = _AGREE.from_response((yield _AGREE.to_command(profile, own)))
        _check_differs(own, peer, "ephemeral")
        shared = curves.multiply(curve, secret, peer)
    except PointRefused as error:
        raise UnexpectedResponse(f"PACE: {error}") from error
    keys = session_keys(suite, curves.x_of(curve, shared))

    response = yield _CONFIRM.to_command(profile, token(keys, peer))
    if response.sw in _PIN_REFUSALS or response.sw & 0xFFF0 == Sw.COUNTER:
        left = response.sw & 0xF if response.sw & 0xFFF0 == Sw.COUNTER else None
        raise PinRefused("the card refused the PACE-PIN", left, tried=True)
    answer = _CONFIRM.from_response(response)
    if len(answer) != MAC_BYTES or not hmac.compare_digest(answer, token(keys, own)):
        raise UnexpectedResponse("PACE: the card's authentication token is wrong")
    return keys


def _check_selection(response: ResponseApdu) -> None:
    if response.sw == Sw.OK:
        return
    refusal = CommandRefused("PACE selection", response.sw)
    left = 0 if response.sw == Sw.BLOCKED else refusal.attempts_left
    if left is None:
        raise refusal
    if left < MIN_TRIES:
        raise PinRefused(f"{left} tries of the PACE-PIN left: not tried", left)


def _check_differs(own: bytes, peer: bytes, which: str) -> None:
    if hmac.compare_digest(own, peer):
        raise UnexpectedResponse(f"PACE: the card returned our own {which} key")
