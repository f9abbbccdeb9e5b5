"""AuthEnvelopedData for one recipient: ephemeral-static key agreement, key wrap, authenticated content.

RFC 5083, 5084, 5753; suites CMS_ECKAEG_AES_xxx_GCM and _CBCCMAC of BSI TR-03116-3, chapter 8. The module
makes content key, nonce and ephemeral key and agrees; derivation, wrap and AES are done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asn1crypto import core
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from hsm.api import KeySlot, SecurityModule
from hsm.errors import CommandRefused, PointRefused
from hsm.x509 import Certificate
from wan.cms import der as syntax
from wan.cms.oids import (
    ATTRIBUTE_CONTENT_TYPE,
    CIPHERS,
    CONTENT_TYPES,
    EC_PUBLIC_KEY,
    SCHEMES,
    WRAP_OIDS,
    WRAPS,
    AgreementScheme,
    CipherKind,
    ContentCipher,
    ContentType,
    SharedInfo,
)
from wan.cms.signed import SignerName as RecipientName
from wan.errors import EnvelopeRefused, MalformedMessage

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_RECIPIENTS: Final = 8
_BLOCK_BYTES: Final = 16
_ZERO_IV: Final = bytes(_BLOCK_BYTES)  # the content key is fresh for every message, which makes this safe
_SET: Final = 0x31
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_REFUSED: Final = "the sealed message is not for this key or was altered"


def derive_kek(
    z: bytes, *, wrap_bytes: int, hash_name: str, shared_info: SharedInfo, ukm: bytes | None = None
) -> bytes:
    """Derive the key encryption key from a shared secret by X9.63 (BSI TR-03111 v2.1 4.3.3, RFC 5753 7.2)."""
    info = None
    if shared_info is SharedInfo.RFC5753:
        fields: dict[str, object] = {
            "key_info": {"algorithm": WRAP_OIDS[wrap_bytes]},
            "supp_pub_info": (8 * wrap_bytes).to_bytes(4, "big"),
        }
        if ukm is not None:
            fields["entity_u_info"] = ukm
        info = bytes(syntax.EccSharedInfo(fields).dump())
    return X963KDF(_HASHES[hash_name], wrap_bytes, info).derive(z)


def protect(
    cipher: ContentCipher, key: bytes, nonce: bytes, content: bytes, aad: bytes
) -> tuple[bytes, bytes]:
    """Encrypt and authenticate; returns (ciphertext, tag or MAC).

    Args:
        cipher: the suite.
        key: `cipher.key_bytes` bytes, never used before.
        nonce: 12 bytes for GCM, b"" for CBC-CMAC.
        content: plaintext.
        aad: DER of the authenticated attributes, or b"".
    """
    if cipher.kind is CipherKind.GCM:
        sealed = AESGCM(key).encrypt(nonce, content, aad)
        return sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    size = cipher.block_key_bytes
    padder = padding.PKCS7(8 * _BLOCK_BYTES).padder()
    encryptor = Cipher(algorithms.AES(key[:size]), modes.CBC(_ZERO_IV)).encryptor()
    ciphertext = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    return ciphertext, _cmac(key[size:], ciphertext + aad).finalize()


def unprotect(
    cipher: ContentCipher, key: bytes, nonce: bytes, ciphertext: bytes, mac: bytes, aad: bytes
) -> bytes:
    """Check and decrypt; the reverse of `protect`.

    Raises:
        EnvelopeRefused: tag, MAC or padding do not match.
    """
    try:
        if cipher.kind is CipherKind.GCM:
            return AESGCM(key).decrypt(nonce, ciphertext + mac, aad)
        size = cipher.block_key_bytes
        _cmac(key[size:], ciphertext + aad).verify(mac)
        decryptor = Cipher(algorithms.AES(key[:size]), modes.CBC(_ZERO_IV)).decryptor()
        unpadder = padding.PKCS7(8 * _BLOCK_BYTES).unpadder()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except (InvalidTag, InvalidSignature, ValueError) as error:
        raise EnvelopeRefused(_REFUSED) from error


def _cmac(key: bytes, data: bytes) -> CMAC:
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac


async def seal(
    content: bytes,
    *,
    recipient: Certificate,
    module: SecurityModule,
    content_type: str = ContentType.DATA,
    cipher: ContentCipher = ContentCipher.AES_128_GCM,
    scheme: AgreementScheme = AgreementScheme.ECKA_EG,
    shared_info: SharedInfo = SharedInfo.RFC5753,
) -> bytes:
    """Return a ContentInfo with AuthEnvelopedData that only `recipient` can open, in DER.

    The recipient is named by its key identifier; a content type other than "data" is repeated in an
    authenticated attribute. The ephemeral key is gone when this returns or raises.

    Raises:
        HsmError: from the module; among them a refusal of a recipient's point that is not on its curve.
    """
    kind, curve = ContentType(content_type), recipient.public_key.curve
    key = await module.random(cipher.key_bytes)
    nonce = await module.random(NONCE_BYTES) if cipher.kind is CipherKind.GCM else b""
    ephemeral = await module.generate_ephemeral(curve)
    try:
        z = await module.agree_ephemeral(ephemeral, recipient.public_key.point)
    finally:
        await module.discard_ephemeral(ephemeral)
    kek = derive_kek(z, wrap_bytes=cipher.block_key_bytes, hash_name=curve.hash_name, shared_info=shared_info)
    agreement = {
        "version": 3,
        "originator": syntax.Originator(
            "key",
            syntax.OriginatorKey(
                {"algorithm": {"algorithm": EC_PUBLIC_KEY}, "public_key": ephemeral.public.point}
            ),
        ),
        "algorithm": {
            "algorithm": scheme.oid(curve.hash_name),
            "wrap": {"algorithm": WRAP_OIDS[cipher.block_key_bytes]},
        },
        "encrypted_keys": [
            {
                "rid": syntax.RecipientIdentifier(
                    "key_identifier", syntax.RecipientKey({"key_identifier": recipient.key_identifier})
                ),
                "encrypted_key": keywrap.aes_key_wrap(kek, key),
            }
        ],
    }
    attributes = _content_type_attribute(kind) if kind is not ContentType.DATA else None
    # RFC 5083 2.2: the DER of the SET OF is authenticated, not its implicitly tagged form.
    ciphertext, mac = protect(cipher, key, nonce, content, attributes.dump() if attributes else b"")
    algorithm: dict[str, object] = {"algorithm": cipher.oid}
    if cipher.kind is CipherKind.GCM:
        algorithm["parameters"] = syntax.GcmParameters({"nonce": nonce, "tag_bytes": TAG_BYTES})
    enveloped: dict[str, object] = {
        "version": 0,
        "recipient_infos": [syntax.RecipientInfo("agreement", syntax.KeyAgreement(agreement))],
        "encrypted": {"content_type": kind.oid, "algorithm": algorithm, "content": ciphertext},
        "mac": mac,
    }
    if attributes is not None:
        enveloped["auth_attrs"] = attributes
    return syntax.wrap(ContentType.AUTH_ENVELOPED, syntax.AuthEnvelopedData(enveloped).dump())


def _content_type_attribute(kind: ContentType) -> Any:
    values = [core.Any(core.ObjectIdentifier(kind.oid))]
    return syntax.Attributes([{"type": ATTRIBUTE_CONTENT_TYPE, "values": values}])


@dataclass(frozen=True, slots=True)
class Recipient:
    """One way to the content key."""

    name: RecipientName
    ephemeral_point: bytes
    hash_name: str
    scheme: AgreementScheme
    wrap_bytes: int
    ukm: bytes | None
    encrypted_key: bytes


@dataclass(frozen=True, slots=True)
class EnvelopedMessage:
    """An AuthEnvelopedData taken apart."""

    recipients: tuple[Recipient, ...]
    content_type: ContentType
    cipher: ContentCipher
    nonce: bytes
    attributes: bytes
    """DER of the SET OF authenticated attributes, b"" if there are none."""
    ciphertext: bytes
    mac: bytes


def parse(der: bytes) -> EnvelopedMessage:
    """Take an AuthEnvelopedData apart.

    Raises:
        MalformedMessage: not one ContentInfo with AuthEnvelopedData in DER, a wrong version, an algorithm or
            parameter that is not allowed, a nonce or tag of another length, attributes missing where the
            content is not id-data, or a content-type attribute that names another type.
    """
    kind, content = syntax.unwrap(der)
    if kind is not ContentType.AUTH_ENVELOPED:
        raise MalformedMessage("not AuthEnvelopedData")
    try:
        return _parse(syntax.load(syntax.AuthEnvelopedData, content))
    except (ValueError, TypeError, KeyError) as error:  # what asn1crypto raises for a wrong structure
        raise MalformedMessage(f"AuthEnvelopedData: {type(error).__name__}") from error


def _parse(enveloped: Any) -> EnvelopedMessage:
    if enveloped["version"].native != 0:
        raise MalformedMessage("AuthEnvelopedData of a wrong version")
    infos = enveloped["recipient_infos"]
    if not 1 <= len(infos) <= MAX_RECIPIENTS:
        raise MalformedMessage("AuthEnvelopedData with too few or too many recipients")
    encrypted = enveloped["encrypted"]
    content_type = CONTENT_TYPES.get(encrypted["content_type"].dotted)
    cipher = CIPHERS.get(encrypted["algorithm"]["algorithm"].dotted)
    if content_type is None or cipher is None:
        raise MalformedMessage("AuthEnvelopedData with an unknown content type or cipher")
    attributes = _attributes(enveloped["auth_attrs"], content_type)
    mac = enveloped["mac"].native
    if len(mac) != TAG_BYTES:
        raise MalformedMessage("tag or MAC is not 16 bytes")
    return EnvelopedMessage(
        recipients=tuple(_recipient(info.chosen) for info in infos),
        content_type=content_type,
        cipher=cipher,
        nonce=_nonce(cipher, encrypted["algorithm"]["parameters"]),
        attributes=attributes,
        ciphertext=encrypted["content"].native,
        mac=mac,
    )


def _recipient(agreement: Any) -> Recipient:
    if agreement["version"].native != 3:
        raise MalformedMessage("KeyAgreeRecipientInfo of a wrong version")
    algorithm = agreement["algorithm"]
    known = SCHEMES.get(algorithm["algorithm"].dotted)
    wrap_bytes = WRAPS.get(algorithm["wrap"]["algorithm"].dotted)
    if known is None or wrap_bytes is None:
        raise MalformedMessage("key agreement or key wrap that is not allowed")
    syntax.only(algorithm["wrap"]["parameters"], (syntax.ABSENT, syntax.NULL))
    originator = agreement["originator"].chosen
    if originator["algorithm"]["algorithm"].dotted != EC_PUBLIC_KEY:
        raise MalformedMessage("ephemeral key is not an EC key")
    if len(agreement["encrypted_keys"]) != 1:
        raise MalformedMessage("not exactly one encrypted key in a KeyAgreeRecipientInfo")
    (encrypted,) = agreement["encrypted_keys"]
    rid = encrypted["rid"]
    name = (
        RecipientName(rid.chosen["key_identifier"].native)
        if rid.name == "key_identifier"
        else RecipientName(None, rid.chosen["issuer"].dump(), rid.chosen["serial"].native)
    )
    scheme, hash_name = known
    return Recipient(
        name=name,
        ephemeral_point=originator["public_key"].native,
        hash_name=hash_name,
        scheme=scheme,
        wrap_bytes=wrap_bytes,
        ukm=agreement["ukm"].native,
        encrypted_key=encrypted["encrypted_key"].native,
    )


def _nonce(cipher: ContentCipher, parameters: Any) -> bytes:
    if cipher.kind is CipherKind.CBC_CMAC:
        syntax.only(parameters, (syntax.ABSENT,))
        return b""
    gcm = syntax.load(syntax.GcmParameters, parameters.dump())
    nonce: bytes = gcm["nonce"].native
    if len(nonce) != NONCE_BYTES or gcm["tag_bytes"].native != TAG_BYTES:
        raise MalformedMessage("GCM nonce is not 96 bits or tag is not 128 bits")
    return nonce


def _attributes(attributes: Any, content_type: ContentType) -> bytes:
    if not len(attributes):
        if content_type is not ContentType.DATA:  # RFC 5083 2.1
            raise MalformedMessage("authenticated attributes are missing")
        return b""
    kinds = [attribute["type"].dotted for attribute in attributes]
    if len(set(kinds)) != len(kinds) or ATTRIBUTE_CONTENT_TYPE not in kinds:
        raise MalformedMessage("authenticated attribute repeated, or content-type missing")
    values = attributes[kinds.index(ATTRIBUTE_CONTENT_TYPE)]["values"]
    if [core.ObjectIdentifier.load(value.dump(), strict=True).dotted for value in values] != [
        content_type.oid
    ]:
        raise MalformedMessage("the authenticated content type is not the one of the content")
    return syntax.header(_SET, attributes.contents)


@dataclass(frozen=True, slots=True)
class Opened:
    """The content of an envelope."""

    content: bytes = field(repr=False)
    content_type: ContentType


async def open(  # noqa: A001 - reads as enveloped.open at every call
    der: bytes,
    *,
    module: SecurityModule,
    slot: KeySlot,
    certificate: Certificate,
    shared_info: SharedInfo = SharedInfo.RFC5753,
) -> Opened:
    """Open an AuthEnvelopedData with the key in `slot`, to which `certificate` belongs.

    Raises:
        MalformedMessage: see `parse`.
        EnvelopeRefused: sealed for somebody else, or altered.
        HsmError: from the module.
    """
    message = parse(der)
    mine = next(
        (
            item
            for item in message.recipients
            if item.name.matches(certificate.der, certificate.key_identifier)
        ),
        None,
    )
    curve = certificate.public_key.curve
    if mine is None or len(mine.ephemeral_point) != 1 + 2 * curve.field_bytes:
        raise EnvelopeRefused(_REFUSED)
    try:
        z = await module.agree(slot, mine.ephemeral_point)
    except (CommandRefused, PointRefused) as error:  # a point that is not on the curve
        raise EnvelopeRefused(_REFUSED) from error
    kek = derive_kek(
        z, wrap_bytes=mine.wrap_bytes, hash_name=mine.hash_name, shared_info=shared_info, ukm=mine.ukm
    )
    try:
        key = keywrap.aes_key_unwrap(kek, mine.encrypted_key)
    except (keywrap.InvalidUnwrap, ValueError) as error:
        raise EnvelopeRefused(_REFUSED) from error
    if len(key) != message.cipher.key_bytes:
        raise EnvelopeRefused(_REFUSED)
    content = unprotect(
        message.cipher, key, message.nonce, message.ciphertext, message.mac, message.attributes
    )
    return Opened(content, message.content_type)
