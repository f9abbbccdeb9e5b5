"""What one recipient gets: the result of a processing profile for one period, as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest

from firmware.metering.register import RegisteredValue
from firmware.metering.status import to_text


@dataclass(frozen=True, slots=True)
class Dataset:
    """The evaluated values of one period, ready for the gate."""

    processing: str
    """Id of the processing profile."""
    taf: int
    consumer: str
    from_utc: datetime
    to_utc: datetime
    entries: tuple[RegisteredValue, ...]
    occasion: str = ""
    """Why it leaves outside the cycle ("limit", "request-..."), empty inside it."""
    usage_point: str = ""
    """Where was measured, as the market calls it; empty: nobody said."""
    tariff: str = ""
    """Name of the tariff; empty: it has none."""
    signatures: tuple[bytes, ...] = ()
    """One for each entry where the profile wants signed values, else none (`firmware.metering.signature`)."""

    def __repr__(self) -> str:
        return f"Dataset({self.processing}, {utc_text(self.to_utc)}, {len(self.entries)} entries)"


def utc_text(instant: datetime) -> str:
    """Write an instant as "2026-01-31T12:00:00Z"; a fraction of a second is kept if there is one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def decimal_text(value: Decimal) -> str:
    """Write a value without exponent and without trailing zeros, e.g. "5249170" or "0.5"."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"", "-0"} else text


def message_id(gateway: str, communication: str, to_utc: datetime, occasion: str = "") -> str:
    """Name the delivery of one period for ever: the same period gives the same id, also after a restart.

    The id consists of letters, digits, ".", "_" and "-", so it fits into a URL as it is.
    """
    name = f"{gateway}-{communication}-{to_utc.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{name}-{occasion}" if occasion else name


def to_document(
    dataset: Dataset, *, identity: str, gateway: str, communication: str, pseudonym: str = ""
) -> bytes:
    """Return the JSON document that a supplier receives; the same input gives the same bytes.

    Args:
        dataset: what is delivered.
        identity: the message id.
        gateway: the gateway's id, lower case.
        communication: id of the communication profile that lets it out.
        pseudonym: takes the place of all names; empty: there is none.

    Returns:
        UTF-8 JSON: {"message_id", "gateway", "profile", "taf", "period": {"from", "to"}, "entries": [{"obis",
        "meter", "time_utc", "value", "unit", "status"}]}; `value` is a decimal string or null, `status` 16
        hexadecimal digits. Outside the cycle there is "occasion" too, and with signed values each
        entry has a "signature" in hexadecimal digits; "usage_point" and "tariff" are there if the
        profile names them. Under a pseudonym {"message_id", "pseudonym", "taf", ...}, and no entry
        has a "meter".
    """
    if pseudonym and dataset.signatures:
        raise ValueError("a signature of a value says whose it is")
    names = {"pseudonym": pseudonym}
    if not pseudonym:
        market = {"usage_point": dataset.usage_point, "tariff": dataset.tariff}
        names = {"gateway": gateway, "profile": communication}
        names |= {key: text for key, text in market.items() if text}
    document = {
        "message_id": identity,
        **names,
        "taf": dataset.taf,
        "period": {"from": utc_text(dataset.from_utc), "to": utc_text(dataset.to_utc)},
        **({"occasion": dataset.occasion} if dataset.occasion else {}),
        "entries": [
            _entry(entry, named=not pseudonym)
            if signature is None
            else {**_entry(entry), "signature": signature.hex()}
            for entry, signature in zip_longest(dataset.entries, dataset.signatures)
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _entry(entry: RegisteredValue, *, named: bool = True) -> dict[str, str | None]:
    return {
        "obis": str(entry.obis),
        **({"meter": str(entry.meter)} if named else {}),
        "time_utc": utc_text(entry.instant_utc),
        "value": None if entry.value is None else decimal_text(entry.value),
        "unit": entry.unit,
        "status": to_text(entry.status),
    }
