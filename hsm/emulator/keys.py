"""Private keys of the card: static slots that last, ephemeral slots that do not; sign and agree with them."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from hsm import curves
from hsm.apdu import Sw
from hsm.api import Curve
from hsm.emulator.state import CardState, StoredKey
from hsm.emulator.status import Refused
from hsm.errors import ModuleFailed, PointRefused

_CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
# Deterministic nonces (RFC 6979): no generator of the host has a say in a signature.
_SIGNING: dict[int, ec.ECDSA] = {
    32: ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True),
    48: ec.ECDSA(utils.Prehashed(hashes.SHA384()), deterministic_signing=True),
    64: ec.ECDSA(utils.Prehashed(hashes.SHA512()), deterministic_signing=True),
}


class CardKey:
    """A usable key pair. What signing needs is made when it is first asked for, and kept."""

    __slots__ = ("_private", "_scalar", "curve", "point")

    def __init__(self, stored: StoredKey) -> None:
        try:
            self.curve = Curve(stored.curve)
        except ValueError:
            raise ModuleFailed("a stored key is damaged") from None
        self.point = stored.point
        self._scalar = int.from_bytes(stored.scalar, "big")
        self._private: ec.EllipticCurvePrivateKey | None = None

    def sign(self, digest: bytes) -> bytes:
        """Plain signature r | s (TR-03111 v2.1, 5.2).

        Raises:
            Refused: 6A80 unless the digest is as long as the hash that goes with the curve.
            ModuleFailed: the stored key is no key.
        """
        size = self.curve.field_bytes
        if len(digest) != size:
            raise Refused(Sw.DATA)
        if self._private is None:
            self._private = self._load()
        r, s = utils.decode_dss_signature(self._private.sign(digest, _SIGNING[size]))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def agree(self, peer: bytes) -> bytes:
        """ECKA: the x-coordinate (TR-03111 v2.1, 4.3); the cofactor is 1 on all five curves.

        Raises:
            Refused: 6A80 for a point that is compressed, of another length, off the curve, at infinity or our
                own; 6985 if the shared secret would be zero.
        """
        if peer == self.point:
            raise Refused(Sw.DATA)
        try:
            secret = curves.x_of(self.curve, curves.multiply(self.curve, self._scalar, peer))
        except PointRefused:
            raise Refused(Sw.DATA) from None
        if not any(secret):
            raise Refused(Sw.CONDITIONS)
        return secret

    def _load(self) -> ec.EllipticCurvePrivateKey:
        """The library's key object; its halves are checked against each other."""
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self.curve], self.point)
            return ec.EllipticCurvePrivateNumbers(self._scalar, public.public_numbers()).private_key()
        except ValueError:
            raise ModuleFailed("a stored key is damaged") from None


def new_key(curve: Curve, draw: Callable[[int], bytes]) -> StoredKey:
    """A key pair whose scalar is drawn by rejection from the card's generator.

    Raises:
        ModuleFailed: the generator is out of service.
    """
    scalar = curves.draw_scalar(curve, draw)
    return StoredKey(curve.value, scalar.to_bytes(curve.field_bytes, "big"), curves.multiply(curve, scalar))


class KeyRing:
    """Usable keys by reference; static ones are made usable when first asked for, and then kept so."""

    def __init__(self, ephemeral: frozenset[int]) -> None:
        self._ephemeral_references = ephemeral
        self._usable: dict[int, tuple[StoredKey, CardKey]] = {}
        self._ephemeral: dict[int, CardKey] = {}

    def is_ephemeral(self, reference: int) -> bool:
        """True for the references of ephemeral slots."""
        return reference in self._ephemeral_references

    def occupied(self, state: CardState, reference: int) -> bool:
        """True if there is a key."""
        return reference in (self._ephemeral if self.is_ephemeral(reference) else state.keys)

    def find(self, state: CardState, reference: int) -> CardKey:
        """The key at a reference.

        Raises:
            Refused: 6A88, nothing there.
        """
        if self.is_ephemeral(reference):
            key = self._ephemeral.get(reference)
            if key is None:
                raise Refused(Sw.REFERENCE)
            return key
        stored = state.keys.get(reference)
        if stored is None:
            self._usable.pop(reference, None)
            raise Refused(Sw.REFERENCE)
        kept = self._usable.get(reference)
        if kept is None or kept[0] is not stored:
            kept = self._usable[reference] = (stored, CardKey(stored))
        return kept[1]

    def use(self, state: CardState, reference: int) -> CardKey:
        """The key at a reference, to work with it.

        Raises:
            Refused: 6A88, nothing there; 6984, deactivated.
        """
        key = self.find(state, reference)
        if reference in state.deactivated:
            raise Refused(Sw.UNUSABLE)
        return key

    def put_ephemeral(self, reference: int, stored: StoredKey) -> None:
        """Keep an ephemeral key until it is used, deleted or power goes."""
        self._ephemeral[reference] = CardKey(stored)

    def drop_ephemeral(self, reference: int) -> None:
        """Erase an ephemeral key."""
        self._ephemeral.pop(reference, None)

    def forget(self, state: CardState) -> None:
        """Let go of keys that are no longer in the state."""
        stored = state.keys
        self._usable = {name: kept for name, kept in self._usable.items() if stored.get(name) is kept[0]}

    def clear_ephemeral(self) -> None:
        """End of the session: no ephemeral key survives it."""
        self._ephemeral.clear()


def check_signature(curve: Curve, point: bytes, digest: bytes, signature: bytes) -> bool:
    """Verify r | s over a digest; the pyca library judges, the module's own keys have no part in it.

    Raises:
        Refused: 6A80, the point is no good or the digest has another length than the curve's hash.
    """
    size = curve.field_bytes
    if len(digest) != size:
        raise Refused(Sw.DATA)
    if len(signature) != 2 * size:
        return False
    try:
        curves.check_point(curve, point)
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        public.verify(utils.encode_dss_signature(r, s), digest, _SIGNING[size])
    except (PointRefused, ValueError):
        raise Refused(Sw.DATA) from None
    except InvalidSignature:
        return False
    return True
