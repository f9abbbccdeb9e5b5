"""The gateway's signature over one measured value, for whoever must prove it later. No I/O; the module signs.

It is apart from the signature of a message and stays with the value. Signed are logical name, status, capture
time, value, scaler and unit; the logical name has the form <OBIS>.<gateway>.sm (VDE-AR 2418-6 draft). The
bytes that are hashed are this project's own, because no text that could be read fixes them: JSON without
spaces, keys in the order below, UTF-8. The signature is plain ECDSA (r | s) over their SHA-256 with the key
of the SIG certificate, brainpoolP256r1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from firmware.metering.dataset import utc_text
from firmware.metering.register import RegisteredValue
from firmware.metering.status import to_text

COSEM_UNITS: Final = {
    "m3": 13,
    "W": 27,
    "VA": 28,
    "var": 29,
    "Wh": 30,
    "varh": 32,
    "A": 33,
    "V": 35,
    "Hz": 44,
}
"""DLMS/COSEM unit codes; another unit is written as 255 and its name."""
_NO_CODE: Final = 255
Sign = Callable[[bytes], Awaitable[bytes]]
"""Digest of 32 bytes to r | s, by the key of the SIG certificate."""


def signed_text(entry: RegisteredValue, gateway: str) -> bytes:
    """Return the bytes that are hashed for one value; the same value gives the same bytes.

    Args:
        entry: the value, or that there is none.
        gateway: the gateway's id, lower case.
    """
    mantissa, scaler = _integer(entry)
    document = {
        "logical_name": f"{entry.obis.groups.hex()}.{gateway}.sm",
        "meter": str(entry.meter),
        "status": to_text(entry.status),
        "capture_time": utc_text(entry.instant_utc),
        "value": mantissa,
        "scaler": scaler,
        "unit": COSEM_UNITS.get(entry.unit, _NO_CODE),
        "unit_name": entry.unit,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


async def sign_values(entries: Iterable[RegisteredValue], gateway: str, sign: Sign) -> tuple[bytes, ...]:
    """Return one signature for each value, in their order.

    Raises:
        HsmError: the module did not sign.
    """
    return tuple([await sign(hashlib.sha256(signed_text(entry, gateway)).digest()) for entry in entries])


def _integer(entry: RegisteredValue) -> tuple[str | None, int]:
    """Return value = integer * 10 ** scaler, the integer as text (it may have 64 bits and more)."""
    if entry.value is None:
        return None, 0
    if not entry.value:
        return "0", 0
    sign, digits, exponent = entry.value.normalize().as_tuple()
    assert isinstance(exponent, int), "registered values are finite"
    return ("-" if sign else "") + "".join(map(str, digits)), exponent
