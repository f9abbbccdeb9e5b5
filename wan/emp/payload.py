"""What a supplier finds inside a sealed message: the released document, bound to gateway, id and recipient.

The binding stands inside the encryption and under the signature. Without it another participant could
take the sealed part out of a recorded message and sign it as its own.
"""

from __future__ import annotations

import msgspec

from wan.errors import MalformedMessage


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One released document on its way."""

    message_id: str
    gateway: str
    """Gateway id, lower case; under a pseudonym the pseudonym."""
    recipient: str
    document: msgspec.Raw
    """JSON text of the document itself."""

    def __repr__(self) -> str:
        return f"Delivery({self.message_id} of {self.gateway} for {self.recipient})"


_decoder = msgspec.json.Decoder(Delivery)


def encode(message_id: str, gateway: str, recipient: str, document: bytes) -> bytes:
    """Wrap a released JSON document.

    Raises:
        MalformedMessage: `document` is not JSON.
    """
    try:
        msgspec.json.decode(document)
    except msgspec.DecodeError as error:
        raise MalformedMessage("the released document is not JSON") from error
    return msgspec.json.encode(Delivery(message_id, gateway, recipient, msgspec.Raw(document)))


def decode(data: bytes) -> Delivery:
    """Unwrap what a gateway sealed.

    Raises:
        MalformedMessage: unknown, missing or wrong fields, or no JSON at all.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"delivery: {error}") from error
