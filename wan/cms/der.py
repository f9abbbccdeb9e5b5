"""The syntax of CMS: DER with nothing left over, and the structures of RFC 5652, 5083, 5753 and 3274.

Only what this profile uses is declared; an element that is not declared is an error. Everything is
DER on the way out and must be DER on the way in, so that equal values are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Final

from asn1crypto import core

from wan.cms.oids import ContentType
from wan.errors import MalformedMessage

MAX_DEPTH: Final = 24
MAX_ELEMENTS: Final = 4096
"""In a message there are some hundred, and as many more for each of a few certificates: content is one."""
_INTEGER, _BIT_STRING, _NULL, _OID, _BOOLEAN = 0x02, 0x03, 0x05, 0x06, 0x01


@dataclass(frozen=True, slots=True)
class Element:
    """One tag-length-value: `whole` with its header, `content` without."""

    tag: int
    whole: bytes
    content: bytes


def elements(data: bytes) -> Iterator[Element]:
    """Split `data` into its DER elements.

    Raises:
        MalformedMessage: a length that is cut off, indefinite or not minimal, or a multi-byte tag.
    """
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        if tag & 0x1F == 0x1F or at + 2 > len(data):
            raise MalformedMessage("DER: tag or length is cut off or of an unknown form")
        length, at = data[at + 1], at + 2
        if length & 0x80:
            width = length & 0x7F
            octets = data[at : at + width]
            if not 1 <= width <= 4 or len(octets) < width:
                raise MalformedMessage("DER: length is indefinite, too long or cut off")
            length, at = int.from_bytes(octets, "big"), at + width
            if length < 0x80 or octets[0] == 0:
                raise MalformedMessage("DER: length is not minimal")
        if at + length > len(data):
            raise MalformedMessage("DER: value is cut off")
        yield Element(tag, data[start : at + length], data[at : at + length])
        at += length


def check(data: bytes) -> None:
    """Make sure that `data` is one DER element and so is everything constructed inside it.

    Raises:
        MalformedMessage: it is not, it is nested deeper than MAX_DEPTH, or it has more than MAX_ELEMENTS.
    """
    if len(list(islice(elements(data), 2))) != 1:
        raise MalformedMessage("DER: not exactly one element")
    _check(data, 0, count(1))


def _check(data: bytes, depth: int, counted: Iterator[int]) -> None:
    if depth > MAX_DEPTH:
        raise MalformedMessage("DER: nested too deeply")
    for element in elements(data):
        if next(counted) > MAX_ELEMENTS:
            raise MalformedMessage("DER: too many elements")
        content = element.content
        if element.tag & 0x20:
            _check(content, depth + 1, counted)
        elif element.tag == _INTEGER:
            if not content or (len(content) > 1 and content[0] in (0x00, 0xFF) and _redundant(content)):
                raise MalformedMessage("DER: integer is not minimal")
        elif element.tag == _BIT_STRING:
            if not content or content[0] > 7 or (content[0] and len(content) == 1):
                raise MalformedMessage("DER: bit string")
        elif element.tag == _OID:
            if not content or content[-1] & 0x80 or len(content) > 64:
                raise MalformedMessage("DER: object identifier")
        elif (element.tag == _NULL and content) or (
            element.tag == _BOOLEAN and content not in (b"\0", b"\xff")
        ):
            raise MalformedMessage("DER: null or boolean")


def _redundant(content: bytes) -> bool:
    return (content[0] == 0xFF) == bool(content[1] & 0x80)


def _declare(name: str, base: Any, **declaration: Any) -> Any:
    """Make an asn1crypto type; the library has no types of its own, so neither have these."""
    return type(name, (base,), {"__module__": __name__, **declaration})


AlgorithmIdentifier: Final = _declare(
    "AlgorithmIdentifier",
    core.Sequence,
    _fields=[("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})],
)
"""RFC 5280 4.1.1.2."""

GcmParameters: Final = _declare(
    "GcmParameters",
    core.Sequence,
    _fields=[("nonce", core.OctetString), ("tag_bytes", core.Integer, {"default": 12})],
)
"""RFC 5084 3.2."""

AnySet: Final = _declare("AnySet", core.SetOf, _child_spec=core.Any)
"""A set whose members are looked at elsewhere."""

Attribute: Final = _declare(
    "Attribute", core.Sequence, _fields=[("type", core.ObjectIdentifier), ("values", AnySet)]
)
"""RFC 5652 5.3."""

Attributes: Final = _declare("Attributes", core.SetOf, _child_spec=Attribute)
"""RFC 5652 5.3; DER orders its members."""

IssuerAndSerial: Final = _declare(
    "IssuerAndSerial", core.Sequence, _fields=[("issuer", core.Any), ("serial", core.Integer)]
)
"""RFC 5652 10.2.4."""

AlgorithmSet: Final = _declare("AlgorithmSet", core.SetOf, _child_spec=AlgorithmIdentifier)
"""DigestAlgorithmIdentifiers."""

EncapsulatedContent: Final = _declare(
    "EncapsulatedContent",
    core.Sequence,
    _fields=[("content_type", core.ObjectIdentifier), ("content", core.OctetString, {"explicit": 0})],
)
"""RFC 5652 5.2; detached content is not part of this profile."""

SignerIdentifier: Final = _declare(
    "SignerIdentifier",
    core.Choice,
    _alternatives=[
        ("issuer_and_serial", IssuerAndSerial),
        ("key_identifier", core.OctetString, {"implicit": 0}),
    ],
)
"""RFC 5652 5.3."""

SignerInfo: Final = _declare(
    "SignerInfo",
    core.Sequence,
    _fields=[
        ("version", core.Integer),
        ("sid", SignerIdentifier),
        ("digest_algorithm", AlgorithmIdentifier),
        ("signed_attrs", Attributes, {"implicit": 0}),
        ("signature_algorithm", AlgorithmIdentifier),
        ("signature", core.OctetString),
    ],
)
"""RFC 5652 5.3; unsigned attributes are not part of this profile."""

SignerInfos: Final = _declare("SignerInfos", core.SetOf, _child_spec=SignerInfo)
"""RFC 5652 5.1."""

SignedData: Final = _declare(
    "SignedData",
    core.Sequence,
    _fields=[
        ("version", core.Integer),
        ("digest_algorithms", AlgorithmSet),
        ("encap_content_info", EncapsulatedContent),
        ("certificates", AnySet, {"implicit": 0, "optional": True}),
        ("crls", AnySet, {"implicit": 1, "optional": True}),
        ("signer_infos", SignerInfos),
    ],
)
"""RFC 5652 5.1."""

AgreementAlgorithm: Final = _declare(
    "AgreementAlgorithm",
    core.Sequence,
    _fields=[("algorithm", core.ObjectIdentifier), ("wrap", AlgorithmIdentifier)],
)
"""KeyEncryptionAlgorithmIdentifier of a key agreement: its parameter is the key wrap (RFC 5753 7.1.4)."""

OriginatorKey: Final = _declare(
    "OriginatorKey",
    core.Sequence,
    _fields=[("algorithm", AlgorithmIdentifier), ("public_key", core.OctetBitString)],
)
"""OriginatorPublicKey, RFC 5652 6.2.2."""

Originator: Final = _declare(
    "Originator", core.Choice, _alternatives=[("key", OriginatorKey, {"implicit": 1})]
)
"""RFC 5652 6.2.2; only an ephemeral key is part of this profile."""

RecipientKey: Final = _declare("RecipientKey", core.Sequence, _fields=[("key_identifier", core.OctetString)])
"""RecipientKeyIdentifier, RFC 5652 6.2.2; date and other are not part of this profile."""

RecipientIdentifier: Final = _declare(
    "RecipientIdentifier",
    core.Choice,
    _alternatives=[
        ("issuer_and_serial", IssuerAndSerial),
        ("key_identifier", RecipientKey, {"implicit": 0}),
    ],
)
"""KeyAgreeRecipientIdentifier, RFC 5652 6.2.2."""

EncryptedKey: Final = _declare(
    "EncryptedKey", core.Sequence, _fields=[("rid", RecipientIdentifier), ("encrypted_key", core.OctetString)]
)
"""RecipientEncryptedKey, RFC 5652 6.2.2."""

EncryptedKeys: Final = _declare("EncryptedKeys", core.SequenceOf, _child_spec=EncryptedKey)
"""RecipientEncryptedKeys, RFC 5652 6.2.2."""

KeyAgreement: Final = _declare(
    "KeyAgreement",
    core.Sequence,
    _fields=[
        ("version", core.Integer),
        ("originator", Originator, {"explicit": 0}),
        ("ukm", core.OctetString, {"explicit": 1, "optional": True}),
        ("algorithm", AgreementAlgorithm),
        ("encrypted_keys", EncryptedKeys),
    ],
)
"""KeyAgreeRecipientInfo, RFC 5652 6.2.2."""

RecipientInfo: Final = _declare(
    "RecipientInfo", core.Choice, _alternatives=[("agreement", KeyAgreement, {"implicit": 1})]
)
"""RFC 5652 6.2; only key agreement is part of this profile."""

RecipientInfos: Final = _declare("RecipientInfos", core.SetOf, _child_spec=RecipientInfo)
"""RFC 5652 6.1."""

EncryptedContent: Final = _declare(
    "EncryptedContent",
    core.Sequence,
    _fields=[
        ("content_type", core.ObjectIdentifier),
        ("algorithm", AlgorithmIdentifier),
        ("content", core.OctetString, {"implicit": 0}),
    ],
)
"""EncryptedContentInfo, RFC 5652 6.1."""

AuthEnvelopedData: Final = _declare(
    "AuthEnvelopedData",
    core.Sequence,
    _fields=[
        ("version", core.Integer),
        ("recipient_infos", RecipientInfos),
        ("encrypted", EncryptedContent),
        ("auth_attrs", Attributes, {"implicit": 1, "optional": True}),
        ("mac", core.OctetString),
    ],
)
"""RFC 5083 2.1, without originatorInfo and unauthenticated attributes."""

EccSharedInfo: Final = _declare(
    "EccSharedInfo",
    core.Sequence,
    _fields=[
        ("key_info", AlgorithmIdentifier),
        ("entity_u_info", core.OctetString, {"explicit": 0, "optional": True}),
        ("supp_pub_info", core.OctetString, {"explicit": 2}),
    ],
)
"""ECC-CMS-SharedInfo, RFC 5753 7.2."""

CompressedData: Final = _declare(
    "CompressedData",
    core.Sequence,
    _fields=[
        ("version", core.Integer),
        ("algorithm", AlgorithmIdentifier),
        ("encap_content_info", EncapsulatedContent),
    ],
)
"""RFC 3274 1.1."""


def load(kind: Any, data: bytes) -> Any:
    """Read `data` as exactly one `kind`.

    asn1crypto decodes fields when they are read, so reading them may raise a ValueError as well.

    Raises:
        MalformedMessage: it is not DER.
    """
    check(data)
    return kind.load(data, strict=True)


def only(parameters: Any, allowed: tuple[bytes, ...]) -> None:
    """Make sure that algorithm parameters are one of `allowed` encodings (b"" for absent).

    Raises:
        MalformedMessage: they are not.
    """
    if parameters.dump() not in allowed:
        raise MalformedMessage("algorithm parameters")


ABSENT: Final = b""
NULL: Final = b"\x05\x00"


def wrap(content_type: ContentType, content: bytes) -> bytes:
    """Build the ContentInfo around the DER of `content`."""
    oid = bytes(core.ObjectIdentifier(content_type.oid).dump())
    return header(0x30, oid + header(0xA0, content))


def header(tag: int, content: bytes) -> bytes:
    """Put a DER tag and length before `content`."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def unwrap(data: bytes) -> tuple[ContentType | None, bytes]:
    """Split a ContentInfo into its type (None: one that this profile does not know) and content DER.

    Raises:
        MalformedMessage: it is no ContentInfo in DER, or something follows it.
    """
    check(data)
    (outer,) = elements(data)
    parts = list(elements(outer.content)) if outer.tag == 0x30 else []
    if [part.tag for part in parts] != [_OID, 0xA0] or len(list(elements(parts[1].content))) != 1:
        raise MalformedMessage("not a ContentInfo")
    return _CONTENT_TYPES.get(parts[0].whole), parts[1].content


_CONTENT_TYPES: Final = {bytes(core.ObjectIdentifier(kind.oid).dump()): kind for kind in ContentType}


def issuer_and_serial(certificate: bytes) -> tuple[bytes, int]:
    """Return the issuer's name (DER) and the serial number of an X.509 certificate in DER.

    Raises:
        MalformedMessage: it is not a certificate.
    """
    try:
        (outer,) = elements(certificate)
        body, *_ = elements(outer.content)
        fields = [element for element in elements(body.content) if element.tag != 0xA0]
        return fields[2].whole, int.from_bytes(fields[0].content, "big", signed=True)
    except (ValueError, IndexError) as error:
        raise MalformedMessage("not a certificate") from error
