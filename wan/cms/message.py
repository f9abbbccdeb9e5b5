"""What goes to a market participant: SignedData over AuthEnvelopedData over data, compressed or not.

Structure: BSI TR-03109-1 v2.0 details, 5; compression: RFC 3274.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from hsm.api import KeySlot, SecurityModule
from hsm.x509 import Certificate
from wan.cms import der as syntax
from wan.cms import enveloped, signed
from wan.cms.oids import CONTENT_TYPES, ZLIB, AgreementScheme, ContentCipher, ContentType, SharedInfo
from wan.errors import MalformedMessage

MAX_CONTENT_BYTES: Final = 4 << 20


def compress(content: bytes) -> bytes:
    """Return CompressedData (its DER without a ContentInfo) over id-data."""
    value = {
        "version": 0,
        "algorithm": {"algorithm": ZLIB},
        "encap_content_info": {"content_type": ContentType.DATA.oid, "content": zlib.compress(content)},
    }
    return bytes(syntax.CompressedData(value).dump())


def decompress(der: bytes, *, max_bytes: int = MAX_CONTENT_BYTES) -> bytes:
    """Return the content of CompressedData over id-data.

    Raises:
        MalformedMessage: another structure or algorithm, a broken stream, bytes after its end, or more
            than `max_bytes` of content.
    """
    try:
        packed = _packed(syntax.load(syntax.CompressedData, der))
    except (ValueError, TypeError, KeyError) as error:  # what asn1crypto raises for a wrong structure
        raise MalformedMessage(f"CompressedData: {type(error).__name__}") from error
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise MalformedMessage("CompressedData: broken zlib stream") from error
    if len(content) > max_bytes or not inflater.eof or inflater.unused_data:
        raise MalformedMessage("CompressedData: too much content, cut off, or bytes after its end")
    return content


def _packed(value: Any) -> bytes:
    inner = value["encap_content_info"]
    if value["version"].native != 0 or value["algorithm"]["algorithm"].dotted != ZLIB:
        raise MalformedMessage("CompressedData: version or algorithm")
    if CONTENT_TYPES.get(inner["content_type"].dotted) is not ContentType.DATA:
        raise MalformedMessage("CompressedData: content is not id-data")
    packed: bytes = inner["content"].native
    return packed


async def to_recipient(
    content: bytes,
    *,
    recipient: Certificate,
    module: SecurityModule,
    sig_slot: KeySlot,
    sig_certificate: Certificate,
    extra: Iterable[Certificate] = (),
    compressed: bool = False,
    cipher: ContentCipher = ContentCipher.AES_128_GCM,
    scheme: AgreementScheme = AgreementScheme.ECKA_EG,
    shared_info: SharedInfo = SharedInfo.RFC5753,
) -> bytes:
    """Seal `content` for one recipient and sign the result; a ContentInfo in DER.

    Args:
        content: plaintext.
        recipient: certificate of its encryption key.
        module: holds our keys.
        sig_slot: key to sign with.
        sig_certificate: belongs to `sig_slot`; sent along.
        extra: certificates to send along, such as the sub-CA's.
        compressed: whether the content is compressed before it is encrypted.
        cipher: content encryption suite.
        scheme: how the key agreement names itself.
        shared_info: what the key derivation hashes beside the secret; both sides must agree.

    Raises:
        HsmError: from the module.
    """
    envelope = await enveloped.seal(
        compress(content) if compressed else content,
        recipient=recipient,
        module=module,
        content_type=ContentType.COMPRESSED if compressed else ContentType.DATA,
        cipher=cipher,
        scheme=scheme,
        shared_info=shared_info,
    )
    _, body = syntax.unwrap(envelope)
    return await signed.sign(
        body,
        module=module,
        slot=sig_slot,
        certificate=sig_certificate,
        content_type=ContentType.AUTH_ENVELOPED,
        extra=extra,
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """What a message said, and who signed it."""

    content: bytes = field(repr=False)
    signer: Certificate


async def from_sender(
    der: bytes,
    *,
    module: SecurityModule,
    enc_slot: KeySlot,
    enc_certificate: Certificate,
    signers: Iterable[Certificate],
    shared_info: SharedInfo = SharedInfo.RFC5753,
) -> Opened:
    """Check the signature, which must be one of `signers`', and open what it covers.

    Raises:
        MalformedMessage: another structure than SignedData(AuthEnvelopedData(data or CompressedData)).
        SignatureRefused: wrong signature or signer; nothing was decrypted.
        EnvelopeRefused: sealed for somebody else, or altered before it was signed.
        HsmError: from the module.
    """
    outer = signed.verify(der, signers=signers)
    if outer.content_type is not ContentType.AUTH_ENVELOPED:
        raise MalformedMessage("SignedData is not over AuthEnvelopedData")
    inner = await enveloped.open(
        syntax.wrap(ContentType.AUTH_ENVELOPED, outer.content),
        module=module,
        slot=enc_slot,
        certificate=enc_certificate,
        shared_info=shared_info,
    )
    return Opened(plain_content(inner.content, inner.content_type), outer.signer)


def plain_content(content: bytes, content_type: ContentType) -> bytes:
    """Take the last layer off an opened envelope.

    Raises:
        MalformedMessage: neither id-data nor CompressedData.
    """
    match content_type:
        case ContentType.DATA:
            return content
        case ContentType.COMPRESSED:
            return decompress(content)
        case _:
            raise MalformedMessage("AuthEnvelopedData is not over data or CompressedData")
