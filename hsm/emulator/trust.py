"""Commands about other people's keys: verify a signature or a certificate, import, know the administrator.

A certificate is given as the TBSCertificate of X.509 and its plain signature. The card takes the key, the
basic constraints and nothing else out of it; names, dates and revocation are the gateway's affair.
"""

from __future__ import annotations

import hashlib

from hsm import curves, tlv
from hsm.apdu import CommandApdu, Sw
from hsm.api import PENDING, Curve, LifeCycle, PublicSlot
from hsm.emulator.access import Action
from hsm.emulator.context import Context, byte, no_parameters
from hsm.emulator.keys import check_signature
from hsm.emulator.passwords import locked_out
from hsm.emulator.state import StoredPublic
from hsm.emulator.status import Refused
from hsm.errors import PointRefused

_SEQUENCE, _INTEGER, _BOOLEAN, _OID, _BITS, _OCTETS = 0x30, 0x02, 0x01, 0x06, 0x03, 0x04
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_EC_KEY = bytes.fromhex("2a8648ce3d0201")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_CURVE_OIDS = {
    bytes.fromhex("2a8648ce3d030107"): Curve.P256,
    bytes.fromhex("2b81040022"): Curve.P384,
    bytes.fromhex("2b2403030208010107"): Curve.BRAINPOOL_P256,
    bytes.fromhex("2b240303020801010b"): Curve.BRAINPOOL_P384,
    bytes.fromhex("2b240303020801010d"): Curve.BRAINPOOL_P512,
}
_TARGETS = frozenset(
    {
        PublicSlot.ROOT,
        PublicSlot.ROOT_NEXT,
        PublicSlot.ADMINISTRATOR,
        PublicSlot.PEER_1,
        PublicSlot.PEER_2,
        PublicSlot.PEER_3,
        PublicSlot.PEER_4,
    }
)


def read_certificate(tbs: bytes) -> tuple[Curve, bytes, bool]:
    """Curve, point and whether it is a CA, out of a TBSCertificate (RFC 5280, 4.1).

    Raises:
        Refused, MalformedTlv: not such a structure, or no key on one of the five curves.
    """
    fields = tlv.parse(tlv.unwrap(_SEQUENCE, tbs))
    if fields and fields[0][0] == _VERSION:
        fields = fields[1:]
    # serial, algorithm, issuer, validity, subject, key
    if len(fields) < 6 or fields[0][0] != _INTEGER or any(tag != _SEQUENCE for tag, _ in fields[1:6]):
        raise Refused(Sw.DATA)
    key = tlv.parse(fields[5][1])
    if [tag for tag, _ in key] != [_SEQUENCE, _BITS]:
        raise Refused(Sw.DATA)
    algorithm, bits = tlv.parse(key[0][1]), key[1][1]
    if [tag for tag, _ in algorithm] != [_OID, _OID] or algorithm[0][1] != _EC_KEY or bits[:1] != b"\x00":
        raise Refused(Sw.DATA)
    curve = _CURVE_OIDS.get(algorithm[1][1])
    if curve is None:
        raise Refused(Sw.DATA)
    try:
        curves.check_point(curve, bits[1:])
    except PointRefused:
        raise Refused(Sw.DATA) from None
    return curve, bits[1:], any(_is_ca(value) for tag, value in fields[6:] if tag == _EXTENSIONS)


def _is_ca(extensions: bytes) -> bool:
    """True if basic constraints say so (RFC 5280, 4.2.1.9)."""
    for _, extension in tlv.parse(tlv.unwrap(_SEQUENCE, extensions)):
        parts = tlv.parse(extension)
        if parts and parts[0] == (_OID, _BASIC_CONSTRAINTS) and parts[-1][0] == _OCTETS:
            content = tlv.parse(tlv.unwrap(_SEQUENCE, parts[-1][1]))
            return bool(content) and content[0] == (_BOOLEAN, b"\xff")
    return False


def choose_verifying(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set DST, to verify: 83 public key. An empty root may be named to put the first one there."""
    context.require(Action.USE_KEY)
    reference = byte(tlv.unwrap(context.profile.tag_public_reference, command.data))
    if reference != PublicSlot.ROOT or not _first_root(context):
        _public(context, reference)
    context.environment.verifying = reference
    return b""


def _first_root(context: Context) -> bool:
    state = context.state
    return state.life_cycle is LifeCycle.PRE_PERSONALISED and PublicSlot.ROOT not in state.public


def _public(context: Context, reference: int) -> tuple[Curve, bytes]:
    if reference == PublicSlot.VERIFIED and context.verified is not None:
        return context.verified
    stored = context.state.public.get(reference)
    if stored is None:
        raise Refused(Sw.REFERENCE)
    return Curve(stored.curve), stored.point


def verify_signature(context: Context, command: CommandApdu) -> bytes:
    """PSO: VERIFY DIGITAL SIGNATURE: 9A digest, 9E r | s, [7F49 key]; 6300 if it does not hold."""
    context.require(Action.USE_KEY)
    profile = context.profile
    objects = tlv.parse_unique(command.data)
    needed = [profile.tag_digest, profile.tag_signature]
    if list(objects) == needed:
        if context.environment.verifying is None:
            raise Refused(Sw.CONDITIONS)
        curve, point = _public(context, context.environment.verifying)
    elif list(objects) == [*needed, profile.tag_public_key]:
        curve, point = context.read_public_object(objects[profile.tag_public_key])
    else:
        raise Refused(Sw.DATA)
    if not check_signature(curve, point, objects[profile.tag_digest], objects[profile.tag_signature]):
        raise Refused(Sw.AUTHENTICATION_FAILED)
    return b""


def verify_certificate(context: Context, command: CommandApdu) -> bytes:
    """PSO: VERIFY CERTIFICATE: 7F4E TBSCertificate, 5F37 r | s, [5F20 where its key is to be kept].

    The issuer is the key chosen by MSE:Set DST. Without 5F20 the key, if it is a CA's, becomes the next link
    of the chain.
    """
    context.require(Action.USE_KEY)
    profile = context.profile
    objects = tlv.parse_unique(command.data)
    needed = [profile.tag_certificate_body, profile.tag_certificate_signature]
    if list(objects) not in (needed, [*needed, profile.tag_certificate_holder]):
        raise Refused(Sw.DATA)
    target = objects.get(profile.tag_certificate_holder)
    slot = None if target is None else byte(target)
    if slot is not None:
        context.require(Action.IMPORT)
        if slot not in _TARGETS:
            raise Refused(Sw.REFERENCE)
    issuer = context.environment.verifying
    if issuer is None:
        raise Refused(Sw.CONDITIONS)
    tbs = objects[profile.tag_certificate_body]
    curve, point, is_ca = read_certificate(tbs)
    first = issuer == PublicSlot.ROOT and _first_root(context)
    _check_place(issuer, slot, is_ca=is_ca, first=first)
    by_curve, by_point = (curve, point) if first else _public(context, issuer)
    digest = hashlib.new(by_curve.hash_name, tbs).digest()
    if not check_signature(by_curve, by_point, digest, objects[profile.tag_certificate_signature]):
        raise Refused(Sw.AUTHENTICATION_FAILED)
    if slot is None:
        context.verified = (curve, point)
        return b""
    with context.changing() as state:
        state.public[slot] = StoredPublic(curve.value, point)
    return b""


def _check_place(issuer: int, slot: int | None, *, is_ca: bool, first: bool) -> None:
    """Which key may be put where: a root only by the root before it, an issuer only if it is a CA."""
    if first != (slot == PublicSlot.ROOT):
        # The first root is self-signed and goes nowhere else; a later one comes as ROOT_NEXT.
        raise Refused(Sw.CONDITIONS)
    if slot == PublicSlot.ROOT_NEXT and issuer != PublicSlot.ROOT:
        raise Refused(Sw.CONDITIONS)
    if slot in (None, PublicSlot.ROOT, PublicSlot.ROOT_NEXT) and not is_ca:
        raise Refused(Sw.DATA)


def activate_root(context: Context) -> None:
    """The next root takes the place of the current one."""
    context.require(Action.IMPORT)
    if PublicSlot.ROOT_NEXT not in context.state.public:
        raise Refused(Sw.REFERENCE)
    with context.changing() as state:
        state.public[PublicSlot.ROOT] = state.public.pop(PublicSlot.ROOT | PENDING)


def choose_external(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set AT for EXTERNAL AUTHENTICATE: 83 the administrator's key. The next challenge is for it."""
    if not locked_out(context):
        context.require(Action.ADMINISTRATOR)
    reference = byte(tlv.unwrap(context.profile.tag_public_reference, command.data))
    if reference != PublicSlot.ADMINISTRATOR:
        raise Refused(Sw.REFERENCE)
    _public(context, reference)
    context.end_administration()
    context.environment.external = reference
    return b""


def external_authenticate(context: Context, command: CommandApdu) -> bytes:
    """EXTERNAL AUTHENTICATE: r | s over application, serial number and challenge, which is used up."""
    if not locked_out(context):
        context.require(Action.ADMINISTRATOR)
    no_parameters(command)
    challenge, context.challenge = context.challenge, None
    reference, context.environment.external = context.environment.external, None
    if challenge is None or reference is None:
        raise Refused(Sw.CONDITIONS)
    curve, point = _public(context, reference)
    message = administrator_message(context.profile.application, context.state.serial, challenge)
    if not check_signature(curve, point, hashlib.new(curve.hash_name, message).digest(), command.data):
        raise Refused(Sw.AUTHENTICATION_FAILED)
    context.administrator = True
    return b""


def administrator_message(application: bytes, serial: bytes, challenge: bytes) -> bytes:
    """What the administrator signs the hash of."""
    return application + serial + challenge


__all__ = [
    "activate_root",
    "administrator_message",
    "choose_external",
    "choose_verifying",
    "external_authenticate",
    "read_certificate",
    "verify_certificate",
    "verify_signature",
]
