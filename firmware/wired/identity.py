"""A key pair and a self-signed certificate for a wired meter, made in the gateway's security module.

The module lets the key leave once, wrapped for a receiver. A meter that is being paired has no key yet that
it could be wrapped for; its master key protects what reaches it (BSI TR-03109-1 v2.0 details, 8.3). So the
receiver is an ephemeral key of the same module, and the meter's key is in the gateway's memory from the
unwrapping to the message. It is kept nowhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from firmware.wired.certificate import CURVE, LIFETIME
from hsm.api import SecurityModule
from hsm.errors import UnexpectedResponse
from hsm.x509 import self_signed
from lmn.wired.pairing import Identity

_WRAPPING_KEY_BYTES: Final = 32


def device_id(server_id: bytes) -> str:
    """Return the 14 characters that name a meter (DIN 43849), lower case.

    Args:
        server_id: 0A, division, three letters, block, number.

    Raises:
        ValueError: it has another form.
    """
    letters = server_id[2:5].decode("latin-1")
    number = int.from_bytes(server_id[6:], "big")
    if len(server_id) != 10 or server_id[0] != 0x0A or server_id[1] > 0xF or number > 99_999_999:
        raise ValueError("a server id of a meter is 0A, division, letters, block, number")
    if not (letters.isascii() and letters.isalpha()):
        raise ValueError("a server id of a meter names its maker by three letters")
    return f"{server_id[1]:x}{letters}{server_id[5]:02x}{number:08d}".lower()


async def make_identity(module: SecurityModule, server_id: bytes, now_utc: datetime) -> Identity:
    """Make a key pair and its certificate for a meter. One call at a time.

    Args:
        module: makes the key, signs with it, lets it leave.
        server_id: of the meter, 10 bytes.
        now_utc: the certificate is valid from here on.

    Raises:
        HsmError: from the module; `UnexpectedResponse` if what it handed out does not unwrap.
    """
    await module.discard_service_keys()  # of a call that was cut off
    ephemeral = await module.generate_ephemeral(CURVE)
    try:
        key = await module.generate_service_key(CURVE, ephemeral.public)
        start = now_utc.replace(microsecond=0)
        certificate = await self_signed(
            module, key, f"{device_id(server_id)}.sm", not_before_utc=start, not_after_utc=start + LIFETIME
        )
        wrapped = await module.export_service_key(key)
    except BaseException:
        await module.discard_ephemeral(ephemeral)
        raise
    secret = await module.agree_ephemeral(ephemeral, wrapped.ephemeral_point)
    wrapping = X963KDF(SHA256(), _WRAPPING_KEY_BYTES, key.public.point).derive(secret)
    try:
        scalar = aes_key_unwrap(wrapping, wrapped.wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise UnexpectedResponse("a service key that does not unwrap") from error
    if len(scalar) != CURVE.field_bytes:
        raise UnexpectedResponse("a service key of another length than its curve's")
    return Identity(scalar, certificate.der)
