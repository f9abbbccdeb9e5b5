"""What the commands of the card share: its state, its rights, its security environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hsm import tlv
from hsm.apdu import CommandApdu, Sw
from hsm.api import Curve
from hsm.emulator.access import Action, Right, right
from hsm.emulator.drbg import Drbg
from hsm.emulator.keys import KeyRing
from hsm.emulator.messaging import CardMessaging
from hsm.emulator.pace import CardPace
from hsm.emulator.state import CardState, decode_state, encode_state
from hsm.emulator.status import Refused
from hsm.emulator.storage import StateStorage
from hsm.profile import Profile


@dataclass(slots=True)
class Environment:
    """What MSE has chosen, by reference; None is nothing."""

    signing: int | None = None
    verifying: int | None = None
    agreeing: int | None = None
    exporting: int | None = None
    internal: int | None = None
    external: int | None = None


class Context:
    """Everything a command may see and change. Volatile parts end with the session."""

    def __init__(self, storage: StateStorage, drbg: Drbg, profile: Profile) -> None:
        self._storage = storage
        self.drbg, self.profile = drbg, profile
        self.state: CardState = decode_state(storage.load())
        self.keys = KeyRing(frozenset(profile.ephemeral_references))
        self.secure = False  # the command at hand came under secure messaging
        self.end_session()
        if storage.lost:
            with self.changing() as state:
                state.pin_left = max(0, state.pin_left - 1)
                state.counter += 1

    def end_session(self) -> None:
        """Reset, power-off, plain command or an error of messaging: nothing volatile survives."""
        self.messaging: CardMessaging | None = None
        self.pace: CardPace | None = None
        self.selected: int | None = None
        self.verified: tuple[Curve, bytes] | None = None  # key of the certificate verified last
        self.end_administration()
        self.environment = Environment()
        self.keys.clear_ephemeral()

    def end_administration(self) -> None:
        """The administrator's rights and challenge are gone."""
        self.administrator = False
        self.challenge: bytes | None = None

    def allows(self, action: Action) -> bool:
        """True if `require` would let it pass."""
        try:
            self.require(action)
        except Refused:
            return False
        return True

    def require(self, action: Action) -> None:
        """Check a right.

        Raises:
            Refused: 6985 if this state of the life cycle does not have it, 6982 if authentication lacks.
        """
        needed = right(self.state.life_cycle, action)
        if needed is Right.NEVER:
            raise Refused(Sw.CONDITIONS if self.secure or action in _TOLD else Sw.SECURITY_STATUS)
        if needed is not Right.ALWAYS and not self.secure:
            raise Refused(Sw.SECURITY_STATUS)
        if needed is Right.GWA and not self.administrator:
            raise Refused(Sw.SECURITY_STATUS)

    @contextmanager
    def changing(self) -> Iterator[CardState]:
        """A state to change; durable when the block ends, untouched if it raises or cannot be stored."""
        state = self.state.copy()
        yield state
        self._storage.save(encode_state(state))
        self.state = state

    def use_try(self) -> None:
        """Make the use of one try of the PIN durable, before anything depends on it.

        Raises:
            Refused: 6983 if none is left, 6581 if it cannot be stored (in memory it is used all the same).
        """
        if not self.state.pin_left:
            raise Refused(Sw.BLOCKED)
        self.state = state = self.state.copy()
        state.pin_left -= 1
        try:
            self._storage.save(encode_state(state))
        except OSError:
            raise Refused(Sw.WRITE_FAILED) from None

    def wrong_pin(self) -> Refused:
        """What a wrong PIN is answered."""
        left = self.state.pin_left
        return Refused(Sw.COUNTER | left if left else Sw.BLOCKED)

    def curve(self, number: int) -> Curve:
        """The curve of a domain parameter id; 6A80 if there is none."""
        for curve, known in self.profile.curve_ids.items():
            if known == number:
                return curve
        raise Refused(Sw.DATA)

    def public_object(self, curve: Curve, point: bytes) -> bytes:
        """7F49 { 80 curve, 86 point }."""
        profile = self.profile
        inner = tlv.encode(profile.tag_curve, bytes((profile.curve_ids[curve],)))
        return tlv.encode(profile.tag_public_key, inner + tlv.encode(profile.tag_public_point, point))

    def read_public_object(self, value: bytes) -> tuple[Curve, bytes]:
        """Curve and point out of the value of a 7F49 object; 6A80 for anything else."""
        objects = tlv.parse_unique(value)
        if list(objects) != [self.profile.tag_curve, self.profile.tag_public_point]:
            raise Refused(Sw.DATA)
        return self.curve(byte(objects[self.profile.tag_curve])), objects[self.profile.tag_public_point]


# Refused in this state even to somebody without rights, who may know that.
_TOLD = frozenset({Action.SELECT, Action.READ_FREE, Action.AUTHENTICATE})

Handler = Callable[[Context, CommandApdu], bytes]
"""Carries a command out: response data, or `Refused`, `MalformedTlv`, `ModuleFailed`, OSError."""


def byte(value: bytes) -> int:
    """The one byte of a value; 6A80 if it has another length."""
    if len(value) != 1:
        raise Refused(Sw.DATA)
    return value[0]


def no_parameters(command: CommandApdu) -> None:
    """6A86 unless P1 and P2 are zero."""
    if command.p1 or command.p2:
        raise Refused(Sw.P1P2)


def p1p2(command: CommandApdu) -> int:
    """Both parameter bytes as one number."""
    return command.p1 << 8 | command.p2
