"""An administrator's order: a JSON document inside a SignedData of the GWA's signature key."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from hsm.x509 import Certificate
from wan.cms import signed
from wan.cms.oids import ContentType
from wan.errors import MalformedMessage, OrderRefused
from wan.ports import Order

MAX_ORDER_BYTES: Final = 1 << 20
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNVERIFIED: Final = "unverified-"


class OrderDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The signed text."""

    message_id: str
    gateway: str
    """Gateway id, lower case."""
    kind: str
    issued_utc: datetime
    version: int
    body: msgspec.Raw
    """A JSON object whose form depends on `kind`."""

    def __repr__(self) -> str:
        return f"OrderDocument({self.message_id}, {self.kind}, version {self.version})"


_decoder = msgspec.json.Decoder(OrderDocument)


def encode(order: Order, gateway: str) -> bytes:
    """Write the document that the administrator signs."""
    return msgspec.json.encode(
        OrderDocument(
            message_id=order.message_id,
            gateway=gateway,
            kind=order.kind,
            issued_utc=order.issued_utc,
            version=order.version,
            body=msgspec.Raw(order.body),
        )
    )


def decode(data: bytes, gateway: str) -> Order:
    """Read a document whose signature is already checked.

    Raises:
        MalformedMessage: not the JSON of an order.
        OrderRefused: "addressee": it is for another gateway.
    """
    try:
        document = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"order: {error}") from error
    if not _is_id(document.message_id) or not 0 <= document.version < 1 << 63:
        raise MalformedMessage("order: message_id or version is outside its range")
    if document.issued_utc.tzinfo is None:
        raise MalformedMessage("order: issued_utc has no time zone")
    body = bytes(document.body)
    if not body.lstrip().startswith(b"{"):
        raise MalformedMessage("order: body is not an object")
    if document.gateway != gateway:
        raise OrderRefused("addressee", "the order is for another gateway")
    return Order(
        document.message_id, document.kind, document.issued_utc.astimezone(UTC), document.version, body
    )


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and not text.startswith(_UNVERIFIED)


def open_order(der: bytes, *, gateway: str, signer: Certificate) -> Order:
    """Check the signature over an order and read it.

    Raises:
        MalformedMessage: not a SignedData over an order.
        SignatureRefused: wrong signature, or not by `signer`.
        OrderRefused: it is for another gateway.
    """
    if len(der) > MAX_ORDER_BYTES:
        raise MalformedMessage("order is too long")
    verified = signed.verify(der, signers=(signer,))
    if verified.content_type is not ContentType.DATA:
        raise MalformedMessage("order is not id-data")
    return decode(verified.content, gateway)


def unverified_id(der: bytes) -> str:
    """Name an order whose own id cannot be believed.

    The id inside is not used: else anybody could have a true order refused by sending a false one first.
    """
    return _UNVERIFIED + hashlib.sha256(der).hexdigest()[:32]
