"""PACE, the card's end: a state machine, one step a GENERAL AUTHENTICATE (TR-03110-3 v2.2, A.3, B.14)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from hmac import compare_digest
from typing import Final

from hsm import curves, tlv
from hsm.apdu import Sw
from hsm.api import Curve
from hsm.emulator.status import Refused
from hsm.errors import MalformedTlv, PointRefused
from hsm.suites import BLOCK, SessionKeys, Suite, crypt_nonce, session_keys, token


class Step(Enum):
    """What the card waits for next."""

    NONCE = "get nonce"
    MAP = "map nonce"
    AGREE = "key agreement"
    CONFIRM = "mutual authentication"
    DONE = "done"
    FAILED = "failed"


_NEXT: Final = {
    Step.NONCE: Step.MAP,
    Step.MAP: Step.AGREE,
    Step.AGREE: Step.CONFIRM,
    Step.CONFIRM: Step.DONE,
}
# Object expected in 7C, object answered in 7C, chaining bit of the command.
_OBJECTS: Final = {
    Step.NONCE: (None, 0x80, True),
    Step.MAP: (0x81, 0x82, True),
    Step.AGREE: (0x83, 0x84, True),
    Step.CONFIRM: (0x85, 0x86, False),
}


class CardPace:
    """One run of PACE.

    Args:
        suite, curve: what MSE chose.
        password: the octets of the PIN.
        draw_nonce: returns the nonce; it must make the use of a try durable *before* it returns.
        draw_scalar: returns a secret scalar in 1..n-1.
        wrong: called when the terminal's token is wrong; returns the status word.
    """

    def __init__(
        self,
        suite: Suite,
        curve: Curve,
        password: bytes,
        *,
        draw_nonce: Callable[[int], bytes],
        draw_scalar: Callable[[], int],
        wrong: Callable[[], int],
    ) -> None:
        self.step = Step.NONCE
        self.keys: SessionKeys | None = None
        self._suite, self._curve, self._password = suite, curve, password
        self._draw_nonce, self._draw_scalar, self._wrong = draw_nonce, draw_scalar, wrong
        self._nonce = self._base = self._own = self._peer = b""

    def answer(self, data: bytes, *, chained: bool) -> bytes:
        """Take the data of one GENERAL AUTHENTICATE; return the data of its response.

        Raises:
            Refused: with the status word; the run is over.
        """
        step = self.step
        self.step = Step.FAILED
        if step not in _NEXT:
            raise Refused(Sw.CONDITIONS)
        wanted, answered, chaining = _OBJECTS[step]
        if chained is not chaining:
            raise Refused(Sw.CHAINING)
        try:
            inner = tlv.unwrap(0x7C, data)
            value = tlv.unwrap(wanted, inner) if wanted is not None else inner
            if wanted is None and inner:
                raise Refused(Sw.DATA)
            result = _HANDLERS[step](self, value)
        except (MalformedTlv, PointRefused):
            raise Refused(Sw.DATA) from None
        self.step = _NEXT[step]
        return tlv.encode(0x7C, tlv.encode(answered, result))

    def _give_nonce(self, _value: bytes) -> bytes:
        self._nonce = self._draw_nonce(BLOCK)
        return crypt_nonce(self._suite, self._password, self._nonce, encrypt=True)

    def _map(self, peer: bytes) -> bytes:
        scalar = self._draw_scalar()
        own = curves.multiply(self._curve, scalar)
        if compare_digest(own, peer):
            raise Refused(Sw.DATA)
        self._base = curves.map_generator(
            self._curve, self._nonce, curves.multiply(self._curve, scalar, peer)
        )
        return own

    def _agree(self, peer: bytes) -> bytes:
        scalar = self._draw_scalar()
        own = curves.multiply(self._curve, scalar, self._base)
        if compare_digest(own, peer):
            raise Refused(Sw.DATA)
        shared = curves.multiply(self._curve, scalar, peer)
        self.keys = session_keys(self._suite, curves.x_of(self._curve, shared))
        self._own, self._peer = own, peer
        return own

    def _confirm(self, received: bytes) -> bytes:
        keys = self.keys
        assert keys is not None
        # The terminal's token covers the point it received, which is ours.
        if not compare_digest(received, token(keys, self._own)):
            self.keys = None
            raise Refused(self._wrong())
        return token(keys, self._peer)


_HANDLERS: Final = {
    Step.NONCE: CardPace._give_nonce,  # noqa: SLF001  # the table belongs to the class above
    Step.MAP: CardPace._map,  # noqa: SLF001
    Step.AGREE: CardPace._agree,  # noqa: SLF001
    Step.CONFIRM: CardPace._confirm,  # noqa: SLF001
}
