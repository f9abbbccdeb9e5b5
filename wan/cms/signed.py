"""SignedData with one signer: ECDSA over signed attributes (RFC 5652 5, BSI TR-03116-3 8.2).

Signing asks the module for one signature. `prepare` and `Unsigned.to_der` do the same in two steps for
callers that have a digest signed elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import core

from hsm.api import Curve, KeySlot, SecurityModule
from hsm.errors import MalformedSignature
from hsm.x509 import Certificate, der_to_plain, plain_to_der
from hsm.x509 import verify as verify_signature
from wan.cms import der as syntax
from wan.cms.oids import (
    ATTRIBUTE_CONTENT_TYPE,
    ATTRIBUTE_MESSAGE_DIGEST,
    CONTENT_TYPES,
    DIGEST_OIDS,
    DIGESTS,
    ECDSA_OIDS,
    ContentType,
)
from wan.errors import MalformedMessage, SignatureRefused

_SET = 0x31


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A SignedData that lacks its signature value."""

    digest: bytes
    """What is to be signed, in the hash of the signer's curve."""
    _content: bytes = field(repr=False)
    _content_type: ContentType
    _attributes: bytes
    _curve: Curve
    _key_identifier: bytes
    _certificates: tuple[bytes, ...]

    def to_der(self, signature: bytes) -> bytes:
        """Complete the message with r | s.

        Raises:
            MalformedSignature: r | s does not fit the curve.
        """
        name = self._curve.hash_name
        signer = {
            "version": 3,
            "sid": syntax.SignerIdentifier("key_identifier", core.OctetString(self._key_identifier)),
            "digest_algorithm": {"algorithm": DIGEST_OIDS[name]},
            "signed_attrs": syntax.Attributes.load(self._attributes),
            "signature_algorithm": {"algorithm": ECDSA_OIDS[name]},
            "signature": plain_to_der(signature, self._curve),
        }
        signed = {
            "version": 3,
            "digest_algorithms": [{"algorithm": DIGEST_OIDS[name]}],
            "encap_content_info": {"content_type": self._content_type.oid, "content": self._content},
            "signer_infos": [signer],
        }
        if self._certificates:
            signed["certificates"] = [core.Any(core.Sequence.load(der)) for der in self._certificates]
        return syntax.wrap(ContentType.SIGNED, syntax.SignedData(signed).dump())


def prepare(
    content: bytes,
    *,
    certificate: Certificate,
    content_type: str = ContentType.DATA,
    extra: Iterable[Certificate] = (),
    include_certificate: bool = True,
) -> Unsigned:
    """Build everything but the signature.

    Args:
        content: the bytes to sign; for a content type other than "data" the DER of that structure.
        certificate: the signer's; its key identifier names the signer, its curve chooses the hash.
        content_type: one of `ContentType`.
        extra: further certificates to send along, such as the sub-CA's.
        include_certificate: whether the signer's own certificate is sent along.
    """
    kind, curve = ContentType(content_type), certificate.public_key.curve
    attributes = bytes(
        syntax.Attributes(
            [
                {
                    "type": ATTRIBUTE_CONTENT_TYPE,
                    "values": [core.Any(core.ObjectIdentifier(kind.oid))],
                },
                {
                    "type": ATTRIBUTE_MESSAGE_DIGEST,
                    "values": [core.Any(core.OctetString(hashlib.new(curve.hash_name, content).digest()))],
                },
            ]
        ).dump()
    )
    return Unsigned(
        digest=hashlib.new(curve.hash_name, attributes).digest(),
        _content=content,
        _content_type=kind,
        _attributes=attributes,
        _curve=curve,
        _key_identifier=certificate.key_identifier,
        _certificates=(
            *((certificate.der,) if include_certificate else ()),
            *(item.der for item in extra),
        ),
    )


async def sign(
    content: bytes,
    *,
    module: SecurityModule,
    slot: KeySlot,
    certificate: Certificate,
    content_type: str = ContentType.DATA,
    extra: Iterable[Certificate] = (),
) -> bytes:
    """Return a ContentInfo with SignedData over `content`, in DER.

    Version 3, the signer named by its key identifier, signed attributes content-type and message-digest.

    Raises:
        HsmError: from the module.
    """
    unsigned = prepare(content, certificate=certificate, content_type=content_type, extra=extra)
    return unsigned.to_der(await module.sign(slot, unsigned.digest))


@dataclass(frozen=True, slots=True)
class SignerName:
    """How a message names its signer: by key identifier, or by issuer (DER) and serial number."""

    key_identifier: bytes | None
    issuer: bytes = b""
    serial: int = 0

    def matches(self, certificate: bytes, key_identifier: bytes) -> bool:
        """Whether it names the certificate with these bytes (DER) and this key identifier."""
        if self.key_identifier is not None:
            return self.key_identifier == key_identifier
        return syntax.issuer_and_serial(certificate) == (self.issuer, self.serial)


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A SignedData taken apart; nothing about it is checked but its form."""

    content: bytes = field(repr=False)
    content_type: ContentType
    signer: SignerName
    hash_name: str
    attributes: bytes
    """DER of the SET OF attributes: what the signature covers."""
    claimed_type: ContentType | None
    """The content-type attribute; None: one that this profile does not know."""
    claimed_digest: bytes
    """The message-digest attribute."""
    signature: bytes
    """ECDSA-Sig-Value, DER."""
    certificates: tuple[bytes, ...]
    """DER of the certificates sent along; they prove nothing."""


def parse(der: bytes) -> SignedMessage:
    """Take a SignedData apart.

    Raises:
        MalformedMessage: not one ContentInfo with SignedData in DER, a version that does not belong to its
            content, not exactly one signer, an attribute missing or repeated, an algorithm not allowed.
    """
    kind, content = syntax.unwrap(der)
    if kind is not ContentType.SIGNED:
        raise MalformedMessage("not SignedData")
    try:
        return _parse(syntax.load(syntax.SignedData, content))
    except (ValueError, TypeError, KeyError) as error:  # what asn1crypto raises for a wrong structure
        raise MalformedMessage(f"SignedData: {type(error).__name__}") from error


def _parse(signed: Any) -> SignedMessage:
    signers = signed["signer_infos"]
    if len(signers) != 1:
        raise MalformedMessage(f"SignedData with {len(signers)} signers")
    (signer,) = signers
    encapsulated = signed["encap_content_info"]
    content_type = CONTENT_TYPES.get(encapsulated["content_type"].dotted)
    if content_type is None:
        raise MalformedMessage("SignedData over an unknown content type")
    name = _signer_name(signer["sid"])
    signer_version = 1 if name.key_identifier is None else 3
    # RFC 5652 5.1: 1 only for id-data and signers of version 1
    version = 1 if signer_version == 1 and content_type is ContentType.DATA else 3
    if signed["version"].native != version or signer["version"].native != signer_version:
        raise MalformedMessage("SignedData or SignerInfo of a wrong version")
    hash_name = DIGESTS.get(signer["digest_algorithm"]["algorithm"].dotted)
    if hash_name is None or signer["signature_algorithm"]["algorithm"].dotted != ECDSA_OIDS[hash_name]:
        raise MalformedMessage("SignedData with a digest or signature algorithm that is not allowed")
    syntax.only(signer["digest_algorithm"]["parameters"], (syntax.ABSENT, syntax.NULL))
    syntax.only(signer["signature_algorithm"]["parameters"], (syntax.ABSENT,))
    if [item["algorithm"].dotted for item in signed["digest_algorithms"]] != [DIGEST_OIDS[hash_name]]:
        raise MalformedMessage("digestAlgorithms do not name the signer's digest")
    attributes = _attributes(signer["signed_attrs"])
    if not {ATTRIBUTE_CONTENT_TYPE, ATTRIBUTE_MESSAGE_DIGEST} <= attributes.keys():
        raise MalformedMessage("SignedData without the attributes content-type and message-digest")
    claimed_type = core.ObjectIdentifier.load(attributes[ATTRIBUTE_CONTENT_TYPE], strict=True).dotted
    claimed_digest = core.OctetString.load(attributes[ATTRIBUTE_MESSAGE_DIGEST], strict=True).native
    return SignedMessage(
        content=encapsulated["content"].native,
        content_type=content_type,
        signer=name,
        hash_name=hash_name,
        attributes=syntax.header(_SET, signer["signed_attrs"].contents),
        claimed_type=CONTENT_TYPES.get(claimed_type),
        claimed_digest=claimed_digest,
        signature=signer["signature"].native,
        certificates=tuple(item.dump() for item in signed["certificates"]),
    )


def _signer_name(sid: Any) -> SignerName:
    if sid.name == "key_identifier":
        return SignerName(sid.chosen.native)
    return SignerName(None, sid.chosen["issuer"].dump(), sid.chosen["serial"].native)


def _attributes(attributes: Any) -> dict[str, bytes]:
    """Return type -> DER of its one value."""
    found: dict[str, bytes] = {}
    for attribute in attributes:
        kind = attribute["type"].dotted
        if kind in found or len(attribute["values"]) != 1:
            raise MalformedMessage(f"attribute {kind} repeated or not of one value")
        found[kind] = attribute["values"][0].dump()
    return found


@dataclass(frozen=True, slots=True)
class Verified:
    """What a signature holds for. Whether the signer's certificate is valid is the caller's to check."""

    content: bytes = field(repr=False)
    content_type: ContentType
    signer: Certificate


def verify(der: bytes, *, signers: Iterable[Certificate]) -> Verified:
    """Take a SignedData apart and check its signature.

    Certificates inside the message are not looked at: the signer must be one of `signers`.

    Raises:
        MalformedMessage: see `parse`.
        SignatureRefused: the signer is none of `signers`, or signature, digest or content type do not match.
    """
    message = parse(der)
    signer = next((item for item in signers if message.signer.matches(item.der, item.key_identifier)), None)
    if signer is None:
        raise SignatureRefused("the signer is not one that may sign this")
    if message.claimed_type is not message.content_type:
        raise SignatureRefused("the signed content type is not the one of the content")
    if message.claimed_digest != hashlib.new(message.hash_name, message.content).digest():
        raise SignatureRefused("the signed digest is not the one of the content")
    try:
        plain = der_to_plain(message.signature, signer.public_key.curve)
    except MalformedSignature as error:
        raise SignatureRefused("the signature value has no valid form") from error
    if not verify_signature(
        signer.public_key, hashlib.new(message.hash_name, message.attributes).digest(), plain
    ):
        raise SignatureRefused("the signature does not match")
    return Verified(message.content, message.content_type, signer)
