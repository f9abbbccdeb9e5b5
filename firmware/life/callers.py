"""Who asks at the control socket, and as whom he is answered: by the kernel's word, not by his own. No I/O.

The kernel says under which user a process runs (SO_PEERCRED). The gateway's own user, and root, may come in
the roles that `[control] roles` names; nobody else may come at all. Whoever comes as a consumer must besides
show that consumer's code (`smgw log code` makes one): that the machine is his does not make the log his.

Wrong codes are counted by the name they are shown for, of all names that have no code together: who goes
through a thousand names neither fills the memory nor has a failure forgotten.

Rule: protection profile PP-0073, FIA_UID.2, FIA_UAU.2, FIA_AFL.1, FAU_SAR.1/CON. How many failures, and for
how long a name is closed then, are own choices.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from firmware.enforcement.roles import Reader, Role
from firmware.errors import AccessRefused

CODES: Final = "consumer-codes.json"
"""Name of the file of codes, in the folder of the gateway's state."""
TRIES: Final = 5
"""Wrong codes of one consumer in a row, after which the name is closed for a while."""
CLOSED_S: Final = 300.0
ROOT: Final = 0
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of the socket, as the kernel tells."""

    uid: int


_Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})+\Z")]


class Verifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a consumer's code is compared with; the code does not follow from it."""

    salt: _Hex
    scrypt: _Hex


_Codes = dict[str, Verifier]


def verifier_of(code: str, salt: bytes) -> Verifier:
    """Return what is kept of a code; ValueError unless the salt has 16 bytes."""
    if len(salt) != _SALT_BYTES:
        raise ValueError("a salt has 16 bytes")
    return Verifier(salt.hex(), _scrypt(code, salt).hex())


def with_code(file: bytes, consumer: str, verifier: Verifier) -> bytes:
    """Return the file of codes with a new one for `consumer`; an empty file is none yet.

    Raises:
        AccessRefused: the file has another form.
    """
    codes = dict(_decoded(file)) if file else {}
    codes[consumer] = verifier
    return msgspec.json.format(msgspec.json.encode(codes, order="sorted"), indent=1) + b"\n"


class Callers:
    """Decides as whom somebody is answered.

    Args:
        own_uid: the user that the gateway runs as.
        roles: in which its own user may come, beside that of a consumer.
        codes: content of the file of codes now, None if there is none; AccessRefused if it cannot be used.
        now_s: a clock that only rises.
    """

    def __init__(
        self,
        own_uid: int,
        roles: Collection[Role] = (Role.SERVICE_TECH,),
        codes: Callable[[], bytes | None] = lambda: None,
        now_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._own_uid, self._roles, self._codes, self._now_s = own_uid, frozenset(roles), codes, now_s
        self._failures: dict[str | None, tuple[int, float]] = {}
        """By name; None: of all names that have no code, so that none of them takes memory."""

    def reader(self, peer: Peer, role: Role, consumer: str, code: str) -> Reader:
        """Return as whom `peer` is answered.

        Args:
            peer: by the kernel's word.
            role: that he asks for.
            consumer: which one, if he comes as a consumer.
            code: that consumer's.

        Raises:
            AccessRefused: names what is missing, and what helps.
        """
        if peer.uid not in (self._own_uid, ROOT):
            raise AccessRefused(
                f"user {peer.uid} may ask nothing; the control socket is for user {self._own_uid} alone"
            )
        if role is Role.CONSUMER:
            self._identify(consumer, code)
            return Reader(role, consumer)
        if role not in self._roles:
            allowed = ", ".join(sorted(one.value for one in self._roles)) or "none"
            raise AccessRefused(
                f"nobody comes as {role.value} over the control socket here: [control] roles in gateway.toml"
                f" names {allowed}"
            )
        return Reader(role, f"user-{peer.uid}")

    def _identify(self, consumer: str, code: str) -> None:
        if not code:
            raise AccessRefused(
                f"who asks as consumer {consumer} shows that consumer's code;"
                f" `smgw log code --consumer {consumer}` makes one"
            )
        text = self._codes()
        codes: Mapping[str, Verifier] = _decoded(text) if text else {}
        known = codes.get(consumer)
        counted_as = None if known is None else consumer
        count, closed_until_s = self._failures.get(counted_as, (0, 0.0))
        if count >= TRIES:
            if self._now_s() < closed_until_s:
                raise AccessRefused(f"too many wrong codes of consumer {consumer}; again in some minutes")
            count = 0
        if known is not None and hmac.compare_digest(
            _scrypt(code, bytes.fromhex(known.salt)), bytes.fromhex(known.scrypt)
        ):
            self._failures.pop(consumer, None)
            return
        # Only what nobody can guess any more is forgotten, so what is kept grows no further than the file.
        self._failures = {one: seen for one, seen in self._failures.items() if one is None or one in codes}
        self._failures[counted_as] = count + 1, self._now_s() + CLOSED_S
        raise AccessRefused(f"that is not the code of consumer {consumer}, or there is none")


def _decoded(text: bytes) -> Mapping[str, Verifier]:
    try:
        return msgspec.json.decode(text, type=_Codes)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AccessRefused(f"the file of consumers' codes cannot be used: {error}") from error


def _scrypt(code: str, salt: bytes) -> bytes:
    return hashlib.scrypt(code.encode(), salt=salt, maxmem=1 << 26, **_SCRYPT)
