"""Seals records under a partition's key, and that key under the security module. No I/O of its own.

Key hierarchy: KeySlot.STORE (in the module) -> ECKA-EG and an agreement that only the module can make,
X9.63-KDF, AES key wrap -> partition key -> HKDF-SHA256 with 32 fresh random bytes of each opening -> subkey
of AES-256-GCM. A copy of a file that is restored and opened again gets a new subkey, so its counter may start
again without a repeated nonce. Two more keys are derived from the partition key: of the labels that stand for
keys, and of the tally over all rows.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.nobodys_point import nobodys_point
from hsm.api import Curve, KeySlot, PublicKey, SecurityModule
from hsm.errors import CommandRefused

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
LABEL_BYTES: Final = 16
OVERHEAD_BYTES: Final = 28
"""Sealed minus plain: nonce (opening u32, counter u64) and tag."""
MAX_SEALS: Final = 2**32
"""Records under one subkey; far below what AES-GCM bears (NIST SP 800-38D, 8.3)."""
_MAX_OPENING: Final = 2**32 - 1
_KEPT_CIPHERS: Final = 16
_NONCE_BYTES: Final = 12
_WRONG_DATA: Final = 0x6A80
_NO_SUCH_KEY: Final = 0x6A88
_OWN: Final = b"smgw store wrap 2"
"""What only the module can wrap and open."""
_ANYBODYS: Final = b"smgw store wrap 1"
"""ECKA-EG alone: the form of before."""
_TAG_BYTES: Final = 16
TALLY_BYTES: Final = 16
TALLY_MODULUS: Final = 1 << 8 * TALLY_BYTES


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A partition key as it lies on the disk; only the module that holds `store` can open it."""

    store: PublicKey
    ephemeral_point: bytes
    wrapped: bytes
    """RFC 3394, 40 bytes."""
    slot: KeySlot = KeySlot.STORE
    """Where the module holds the private half; another one than STORE only while that key is changed."""


async def new_partition_key(module: SecurityModule, partition: str) -> tuple[bytes, WrappedKey]:
    """Make a partition key of the module's random bytes and wrap it against the module's own STORE key.

    Raises:
        HsmError: the module cannot do it; `CommandRefused` (6A88) if the STORE slot is empty.
    """
    await module.public_key(KeySlot.STORE)
    key = await module.random(KEY_BYTES)
    return key, await wrap_partition_key(module, partition, key)


async def wrap_partition_key(
    module: SecurityModule, partition: str, key: bytes, slot: KeySlot = KeySlot.STORE
) -> WrappedKey:
    """Wrap a partition key against the module's own key in `slot`.

    What that key makes of a point whose logarithm nobody knows goes in as well. ECKA-EG alone takes nothing
    but the public half, which stands in every file and backup: whoever has one could wrap a key that he
    knows, and with it make stores that the gateway takes for its own.

    Raises:
        HsmError: the module cannot do it; `CommandRefused` (6A88) if the slot is empty.
    Spec: BSI TR-03111 v2.1, 4.3.2 (ECKA-EG) and 4.3.3 (X9.63 KDF); RFC 3394. The second agreement is ours.
    """
    store = await module.public_key(slot)
    own = await module.agree(slot, nobodys_point(store))
    ephemeral = await module.generate_ephemeral(store.curve)
    secret = await module.agree_ephemeral(ephemeral, store.point)
    info = _shared_info(_OWN, partition, store, ephemeral.public.point)
    wrapped = aes_key_wrap(X963KDF(SHA256(), KEY_BYTES, info).derive(secret + own), key)
    return WrappedKey(store, ephemeral.public.point, wrapped, slot)


async def open_partition_key(
    module: SecurityModule, partition: str, wrapped: Sequence[WrappedKey], *, anybodys: bool = False
) -> tuple[bytes, WrappedKey, bool]:
    """Return the partition key, which of its wrapped forms the module could open, and whether that is ours.

    Args:
        module: holds the key that one of the forms was wrapped against.
        partition: its name.
        wrapped: more than one only while the STORE key is changed.
        anybodys: take a key, too, that anybody could have wrapped who knows the module's public key, as all
            were before; it is not ours then, and to be wrapped anew.

    Raises:
        StoreUnavailable: the partition was made with another security module, or anybody's is not taken.
        StoreCorrupt: the wrapped key was changed, or belongs to another partition.
        HsmError: the module cannot do it.
    """
    for form in wrapped:
        try:
            store = await module.public_key(form.slot)
        except CommandRefused as refused:
            if refused.sw != _NO_SUCH_KEY:
                raise
            continue
        if store == form.store:
            key, ours = await _unwrap(module, partition, form)
            if not ours and not anybodys:
                raise StoreUnavailable(
                    f"partition {partition}: its key is wrapped as it was before, which anybody can do who"
                    " knows this security module's public key; if you know where the files come from,"
                    " `smgw restore --keep-as-they-are` takes them"
                )
            return key, form, ours
    raise StoreUnavailable(f"partition {partition} was sealed with another security module")


async def _unwrap(module: SecurityModule, partition: str, wrapped: WrappedKey) -> tuple[bytes, bool]:
    try:
        secret = await module.agree(wrapped.slot, wrapped.ephemeral_point)
    except CommandRefused as refused:
        if refused.sw != _WRONG_DATA:
            raise
        raise StoreCorrupt(f"partition {partition}: the ephemeral point is damaged") from refused
    own = await module.agree(wrapped.slot, nobodys_point(wrapped.store))
    for form, shared in ((_OWN, secret + own), (_ANYBODYS, secret)):
        info = _shared_info(form, partition, wrapped.store, wrapped.ephemeral_point)
        try:
            key = aes_key_unwrap(X963KDF(SHA256(), KEY_BYTES, info).derive(shared), wrapped.wrapped)
        except (InvalidUnwrap, ValueError):
            continue
        if len(key) != KEY_BYTES:
            raise StoreCorrupt(f"partition {partition}: the wrapped key has the wrong length")
        return key, form is _OWN
    raise StoreCorrupt(f"partition {partition}: the wrapped key is damaged")


def _shared_info(form: bytes, partition: str, store: PublicKey, ephemeral_point: bytes) -> bytes:
    return form + b"".join(
        _counted(part)
        for part in (partition.encode(), store.curve.value.encode(), store.point, ephemeral_point)
    )


def slot_of(reference: int) -> KeySlot:
    """Read a slot's stored number; `StoreCorrupt` if there is none of that number."""
    try:
        return KeySlot(reference)
    except ValueError as error:
        raise StoreCorrupt("the header names an unknown key slot") from error


def curve_of(name: str) -> Curve:
    """Read a curve's stored name; `StoreCorrupt` if there is none of that name."""
    try:
        return Curve(name)
    except ValueError as error:
        raise StoreCorrupt("the header names an unknown curve") from error


def _counted(part: bytes) -> bytes:
    return struct.pack(">H", len(part)) + part


class Places:
    """Where a record belongs, as associated data: partition, kind, and key label or record number.

    Each part but the last is counted and each form has its own letter, so no two places encode alike.
    """

    def __init__(self, partition: str) -> None:
        self._partition = _counted(partition.encode())
        self._kinds: dict[str, bytes] = {}

    def item(self, kind: str, label: bytes) -> bytes:
        """Place of a keyed item; `label` stands for its key."""
        return self._prefix(kind) + b"I" + label

    def record(self, kind: str, number: int) -> bytes:
        """Place of a numbered record."""
        return self._prefix(kind) + b"R" + number.to_bytes(8, "big")

    def key(self, kind: str, key: str) -> bytes:
        """What the label of a key is computed over."""
        return self._prefix(kind) + b"K" + key.encode()

    def records(self, kind: str, first: int, count: int) -> list[bytes]:
        """Places of `count` records in a row."""
        prefix = self._prefix(kind) + b"R"
        return [prefix + number.to_bytes(8, "big") for number in range(first, first + count)]

    def kind_row(self, identifier: int) -> bytes:
        """Place of the row that names a kind."""
        return self._partition + b"N" + identifier.to_bytes(8, "big")

    def state(self) -> bytes:
        """Place of the row that holds epoch and tally of the whole file."""
        return self._partition + b"S"

    def _prefix(self, kind: str) -> bytes:
        prefix = self._kinds.get(kind)
        if prefix is None:
            prefix = self._kinds[kind] = self._partition + b"P" + _counted(kind.encode())
        return prefix


class Sealer:
    """Seals under the subkey of this opening and opens what any opening sealed.

    Args:
        key: the partition key, 32 bytes.
        opening: number of this opening, from 1; salt: its 32 fresh random bytes.
        salt_of: salt of an earlier opening, None if there was none of that number.
    """

    def __init__(self, key: bytes, opening: int, salt: bytes, salt_of: Callable[[int], bytes | None]) -> None:
        if len(key) != KEY_BYTES or len(salt) != SALT_BYTES:
            raise ValueError("a partition key and a salt have 32 bytes each")
        if not 0 < opening <= _MAX_OPENING:
            raise StoreUnavailable("the partition was opened too often; its key must be changed")
        self._key, self._salt_of = key, salt_of
        self._label_key = _derive(key, bytes(SALT_BYTES), b"smgw store label 1")
        tally_key = AES(_derive(key, bytes(SALT_BYTES), b"smgw store tally 1"))
        # Single blocks that never repeat, as a pseudorandom function: the one thing this mode is right for.
        self._summand = Cipher(tally_key, ECB()).encryptor().update  # noqa: S305
        self._prefix = opening.to_bytes(4, "big")
        self._cipher = AESGCM(_derive(key, salt, b"smgw store record 1"))
        self._ciphers: dict[bytes, AESGCM] = {self._prefix: self._cipher}
        self._seals = 0

    def __repr__(self) -> str:
        return f"Sealer(opening {int.from_bytes(self._prefix, 'big')}, {self._seals} sealed)"

    @property
    def key(self) -> bytes:
        """The partition key, to be wrapped anew."""
        return self._key

    @property
    def seals(self) -> int:
        """How many records this opening has sealed."""
        return self._seals

    def seal(self, place: bytes, plaintext: bytes) -> bytes:
        """Return nonce | ciphertext | tag; `place` is authenticated and must be given again to open.

        Raises:
            StoreUnavailable: this opening has sealed `MAX_SEALS` records; opening again helps.
        """
        if self._seals >= MAX_SEALS:
            raise StoreUnavailable("the subkey of this opening is used up; open the partition again")
        self._seals += 1  # before use: a failed commit still uses its nonces up
        nonce = self._prefix + self._seals.to_bytes(8, "big")
        return nonce + self._cipher.encrypt(nonce, plaintext, place)

    def seal_all(self, places: Sequence[bytes], plaintexts: Sequence[bytes]) -> list[bytes]:
        """Do what `seal` does for many; `StoreUnavailable` before any of them if there are too many."""
        if self._seals + len(plaintexts) > MAX_SEALS:
            raise StoreUnavailable("the subkey of this opening is used up; open the partition again")
        first = (int.from_bytes(self._prefix, "big") << 64) + self._seals + 1
        self._seals += len(plaintexts)
        encrypt = self._cipher.encrypt
        return [
            (nonce := number.to_bytes(_NONCE_BYTES, "big")) + encrypt(nonce, plaintext, place)
            for number, (plaintext, place) in enumerate(zip(plaintexts, places, strict=True), first)
        ]

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            StoreCorrupt: the bytes were changed, moved from another place, or sealed under another key.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise StoreCorrupt("a sealed record is too short")
        prefix = sealed[:4]
        cipher = self._ciphers.get(prefix) or self._earlier(prefix)
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except InvalidTag as error:
            raise StoreCorrupt("a sealed record fails its integrity check") from error

    def first_misplaced(self, places: Sequence[bytes], rows: Sequence[bytes]) -> int | None:
        """Return the position of the first row that does not open in its place, None if all do."""
        ciphers = self._ciphers
        for at, (place, sealed) in enumerate(zip(places, rows, strict=True)):
            try:
                cipher = ciphers.get(sealed[:4]) or self._earlier(sealed[:4])
                cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
            except (InvalidTag, StoreCorrupt, ValueError):  # ValueError: shorter than a nonce
                return at
            ciphers = self._ciphers
        return None

    def label(self, place: bytes) -> bytes:
        """Return what stands for a key on the disk: 16 bytes that do not tell it (HMAC-SHA256, cut)."""
        return hmac.digest(self._label_key, place, "sha256")[:LABEL_BYTES]

    def tally(self, rows: Sequence[bytes]) -> int:
        """Return what sealed rows add to the tally of their file: a sum that only the key's owner can make.

        AES-256 of each row's tag, added up. The tag binds place, nonce and content, so rows that differ in
        anything add something else; and since nobody without the key knows any of the summands, rows cannot
        be exchanged for others with the same sum.
        """
        blocks = b"".join([row[-_TAG_BYTES:] for row in rows])
        if len(blocks) != _TAG_BYTES * len(rows):  # a damaged row; the cipher would keep a part of a block
            blocks = b"".join([row[-_TAG_BYTES:].rjust(_TAG_BYTES, b"\0") for row in rows])
        words = struct.unpack(f">{2 * len(rows)}Q", self._summand(blocks))
        high, low = sum(words[::2]), sum(words[1::2])
        return int((high << 64) + low)

    def _earlier(self, prefix: bytes) -> AESGCM:
        salt = self._salt_of(int.from_bytes(prefix, "big"))
        if salt is None or len(salt) != SALT_BYTES:
            raise StoreCorrupt("a sealed record names an opening that never was")
        if len(self._ciphers) >= _KEPT_CIPHERS:
            self._ciphers = {self._prefix: self._cipher}
        cipher = self._ciphers[prefix] = AESGCM(_derive(self._key, salt, b"smgw store record 1"))
        return cipher


def _derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, purpose).derive(key)
