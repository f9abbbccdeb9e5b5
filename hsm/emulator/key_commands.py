"""Commands about key pairs: choose, generate, read, sign, agree, export, activate, deactivate, delete."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from hsm import curves, tlv
from hsm.apdu import CommandApdu, Sw
from hsm.api import PENDING, Curve
from hsm.emulator.access import Action
from hsm.emulator.context import Context, byte, no_parameters
from hsm.emulator.keys import CardKey, new_key
from hsm.emulator.state import StoredPublic
from hsm.emulator.status import Refused
from hsm.errors import PointRefused
from hsm.profile import KeyKind

_CHAIN = 0x10
_WRAPPING_KEY_BYTES = 32
# What may be done with a key of which kind; a reference of another kind is "not found" (6A88).
_SIGNERS = frozenset({KeyKind.GATEWAY, KeyKind.NET, KeyKind.STORE, KeyKind.SERVICE})
_AGREERS = frozenset({KeyKind.GATEWAY, KeyKind.NET, KeyKind.STORE, KeyKind.EPHEMERAL})
_OF_KIND = {
    KeyKind.STORE: Action.MANAGE_KEYS,
    KeyKind.NET: Action.NET_KEY,
    KeyKind.SERVICE: Action.SERVICE_KEY,
    KeyKind.EPHEMERAL: Action.EPHEMERAL,
    KeyKind.GATEWAY: Action.MANAGE_KEYS,
}


def _kind(context: Context, reference: int) -> KeyKind:
    kind = context.profile.key_kinds.get(reference)
    if kind is None:
        raise Refused(Sw.REFERENCE)
    return kind


def _reference(context: Context, command: CommandApdu) -> int:
    """The reference in the body of an MSE."""
    return byte(tlv.unwrap(context.profile.tag_key_reference, command.data))


def choose(context: Context, command: CommandApdu, kinds: frozenset[KeyKind]) -> int:
    """The reference that an MSE names, if there is a key of one of these kinds."""
    context.require(Action.USE_KEY)
    reference = _reference(context, command)
    context.keys.find(context.state, reference)
    if _kind(context, reference) not in kinds:
        raise Refused(Sw.REFERENCE)
    return reference


def choose_signing(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set DST, to compute."""
    context.environment.signing = choose(context, command, _SIGNERS)
    return b""


def choose_agreement(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set KAT."""
    context.environment.agreeing = choose(context, command, _AGREERS)
    return b""


def choose_export(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set CT: the service key that is to leave."""
    context.environment.exporting = choose(context, command, frozenset({KeyKind.SERVICE}))
    return b""


def get_challenge(context: Context, command: CommandApdu) -> bytes:
    """GET CHALLENGE: random bytes; eight of them after MSE:Set AT external are for the administrator."""
    environment, profile = context.environment, context.profile
    for_administrator = environment.external is not None and context.challenge is None
    if not (for_administrator and not context.secure):
        context.require(Action.RANDOM)
    no_parameters(command)
    if command.data or command.le is None or command.le > profile.challenge_max_bytes:
        raise Refused(Sw.LENGTH)
    if for_administrator and command.le != profile.authentication_challenge_bytes and not context.secure:
        raise Refused(Sw.SECURITY_STATUS)
    random = context.drbg.read(command.le)
    if for_administrator and command.le == profile.authentication_challenge_bytes:
        context.challenge = random
    return random


def generate(context: Context, command: CommandApdu) -> bytes:
    """GENERATE ASYMMETRIC KEY PAIR, or the form that only reads the public key."""
    profile = context.profile
    if command.p1 not in (profile.p1_generate_new, profile.p1_generate_replace, profile.p1_read_public):
        raise Refused(Sw.P1P2)
    context.require(Action.USE_KEY)
    if command.p2:
        raise Refused(Sw.P1P2)
    if command.le is None:
        raise Refused(Sw.LENGTH)
    reading = command.p1 == profile.p1_read_public
    objects = tlv.parse_unique(tlv.unwrap(profile.key_template, command.data))
    needed = {profile.tag_key_reference} if reading else {profile.tag_key_reference, profile.tag_curve}
    if not needed <= objects.keys() <= (needed if reading else needed | {profile.tag_public_key}):
        raise Refused(Sw.DATA)
    reference = byte(objects[profile.tag_key_reference])
    if reading:
        return _public(context, context.keys.find(context.state, reference))
    kind = _kind(context, reference)
    replacing = command.p1 == profile.p1_generate_replace
    _check_generation(context, kind, reference, replacing=replacing)
    curve = context.curve(byte(objects[profile.tag_curve]))
    receiver = objects.get(profile.tag_public_key)
    if (kind is KeyKind.SERVICE) != (receiver is not None):
        raise Refused(Sw.DATA)
    bound = None if receiver is None else _receiver(context, curve, receiver)
    if context.keys.occupied(context.state, reference) and not (replacing and kind is not KeyKind.SERVICE):
        raise Refused(Sw.EXISTS)
    key = new_key(curve, context.drbg.read)
    if kind is KeyKind.EPHEMERAL:
        context.keys.put_ephemeral(reference, key)
    else:
        with context.changing() as state:
            state.keys[reference] = key
            state.deactivated = [other for other in state.deactivated if other != reference]
            if bound is not None:
                state.receivers[reference] = bound
        context.keys.forget(context.state)
    return _public(context, context.keys.find(context.state, reference))


def _check_generation(context: Context, kind: KeyKind, reference: int, *, replacing: bool) -> None:
    if kind is KeyKind.GATEWAY:
        if reference & PENDING:
            context.require(Action.GENERATE_PENDING)
        else:
            if not context.allows(Action.GENERATE):
                # Who lacks the administrator hears that first, in every state.
                context.require(Action.MANAGE_KEYS)
            context.require(Action.GENERATE)
    elif kind is KeyKind.STORE:
        context.require(Action.STORE_KEY)
        if replacing and context.keys.occupied(context.state, reference):
            context.require(Action.MANAGE_KEYS)
    else:
        context.require(_OF_KIND[kind])


def _receiver(context: Context, curve: Curve, value: bytes) -> StoredPublic:
    """The key that a service key will be wrapped for; its curve is no weaker than the key's."""
    receiver_curve, point = context.read_public_object(value)
    try:
        curves.check_point(receiver_curve, point)
    except PointRefused:
        raise Refused(Sw.DATA) from None
    if receiver_curve.field_bytes < curve.field_bytes:
        raise Refused(Sw.DATA)
    return StoredPublic(receiver_curve.value, point)


def _public(context: Context, key: CardKey) -> bytes:
    return context.public_object(key.curve, key.point)


def sign(context: Context, command: CommandApdu) -> bytes:
    """PSO: COMPUTE DIGITAL SIGNATURE over a digest."""
    context.require(Action.USE_KEY)
    reference = context.environment.signing
    if reference is None:
        raise Refused(Sw.CONDITIONS)
    if command.le is None:
        raise Refused(Sw.LENGTH)
    return context.keys.use(context.state, reference).sign(command.data)


def internal_authenticate(context: Context, command: CommandApdu) -> bytes:
    """INTERNAL AUTHENTICATE: a signature over the hash of the other side's challenge (8..256 bytes)."""
    context.require(Action.USE_KEY)
    no_parameters(command)
    reference = context.environment.internal
    if reference is None:
        raise Refused(Sw.CONDITIONS)
    if not 8 <= len(command.data) <= 256 or command.le is None:
        raise Refused(Sw.LENGTH)
    key = context.keys.use(context.state, reference)
    return key.sign(hashlib.new(key.curve.hash_name, command.data).digest())


def choose_internal(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set AT for INTERNAL AUTHENTICATE: 84 private key."""
    context.environment.internal = choose(context, command, _SIGNERS - {KeyKind.SERVICE})
    return b""


def agree(context: Context, command: CommandApdu) -> bytes:
    """GENERAL AUTHENTICATE as key agreement; an ephemeral key is used up, whatever comes of it."""
    no_parameters(command)
    context.require(Action.USE_KEY)
    if command.cla & _CHAIN:
        raise Refused(Sw.CHAINING)
    reference = context.environment.agreeing
    if reference is None:
        raise Refused(Sw.CONDITIONS)
    profile = context.profile
    try:
        key = context.keys.use(context.state, reference)
        if command.le is None:
            raise Refused(Sw.LENGTH)
        peer = tlv.unwrap(profile.tag_peer_point, tlv.unwrap(profile.tag_agree, command.data))
        secret = key.agree(peer)
    finally:
        if context.keys.is_ephemeral(reference):
            context.keys.drop_ephemeral(reference)
            context.environment.agreeing = None
    return tlv.encode(profile.tag_agree, tlv.encode(profile.tag_shared_secret, secret))


def export(context: Context, command: CommandApdu) -> bytes:
    """PSO: ENCIPHER of the chosen service key for its receiver; it is erased, durably, before the answer."""
    context.require(Action.SERVICE_KEY)
    reference = context.environment.exporting
    if reference is None:
        raise Refused(Sw.CONDITIONS)
    if command.data or command.le is None:
        raise Refused(Sw.LENGTH)
    key = context.keys.use(context.state, reference)
    receiver = context.state.receivers[reference]
    curve = Curve(receiver.curve)
    ephemeral = CardKey(new_key(curve, context.drbg.read))
    kdf = X963KDF(hashes.SHA256(), _WRAPPING_KEY_BYTES, key.point)
    wrapped = aes_key_wrap(kdf.derive(ephemeral.agree(receiver.point)), context.state.keys[reference].scalar)
    with context.changing() as state:
        del state.keys[reference], state.receivers[reference]
    context.keys.forget(context.state)
    context.environment.exporting = None
    profile = context.profile
    return tlv.encode(profile.tag_public_point, ephemeral.point) + tlv.encode(profile.tag_wrapped, wrapped)


def activate_pending(context: Context, reference: int) -> None:
    """The pending key takes the place of the current one, which is erased."""
    kind = _kind(context, reference)
    if reference & PENDING or kind not in (KeyKind.GATEWAY, KeyKind.NET):
        raise Refused(Sw.REFERENCE)
    context.require(_OF_KIND[kind])
    if reference | PENDING not in context.state.keys:
        raise Refused(Sw.REFERENCE)
    with context.changing() as state:
        pending = reference | PENDING
        state.keys[reference] = state.keys.pop(pending)
        # A key that was deactivated stays so: activating its slot is not the administrator's word.
        others = {other for other in state.deactivated if other not in (reference, pending)}
        state.deactivated = sorted(others | ({reference} if pending in state.deactivated else set()))
    context.keys.forget(context.state)


def suspend(context: Context, reference: int, *, active: bool) -> None:
    """Make a stored key unusable, or usable again."""
    context.require(Action.SUSPEND)
    if reference not in context.state.keys:
        raise Refused(Sw.REFERENCE)
    with context.changing() as state:
        others = {other for other in state.deactivated if other != reference}
        state.deactivated = sorted(others if active else {*others, reference})


def delete(context: Context, value: bytes) -> None:
    """DELETE a key pair."""
    reference = byte(value)
    if not context.keys.occupied(context.state, reference):
        raise Refused(Sw.REFERENCE)
    kind = _kind(context, reference)
    context.require(_OF_KIND[kind])
    if kind is KeyKind.EPHEMERAL:
        context.keys.drop_ephemeral(reference)
        return
    with context.changing() as state:
        del state.keys[reference]
        state.receivers.pop(reference, None)
        state.deactivated = [other for other in state.deactivated if other != reference]
    context.keys.forget(context.state)
