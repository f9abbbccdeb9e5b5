"""Concealment of traffic: one size a profile and period, an offset nobody outside can foretell. Pure.

How much, when and in what size something is sent must not tell what was used (PP-0073, FPR_CON.1). A document
is padded to a bound that follows from profile and period alone: how many entries there can be, and how long
an entry can be. A delivery waits for an offset between 0 and the profile's `spread_s`, counted from when the
acceptance window of its period's end has closed; the offset is a keyed hash, so that it is the same after a
restart and unknown outside.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from firmware.enforcement.schedule import registration_step_s
from firmware.metering.dataset import Dataset, to_document, utc_text
from firmware.metering.quantity import FRACTION_DIGITS, INTEGER_DIGITS
from firmware.metering.tariff.catalogue import USE_CASES, Form
from firmware.profile.model import CommunicationProfile, ProcessingProfile
from firmware.profile.tariffs import LAST_STAGE, Extremes

KEY_BYTES: Final = 32
_VALUE_CHARS: Final = len('"-."') + INTEGER_DIGITS + FRACTION_DIGITS
_UNIT_CHARS: Final = 16
"""In JSON and without its quotes; a longer one (no meter is known to send it) costs a further block."""
_OBIS_CHARS: Final = len("255-255:255.255.255*255")
_STATUS_CHARS: Final = 16
_SIGNATURE_CHARS: Final = 2 * 2 * 64
"""Plain ECDSA on a curve of 512 bits in hexadecimal digits; shorter ones are padded like anything else."""
_MILLISECONDS: Final = 1000
_PADDING: Final = b',"padding":""'


def entries_at_most(profile: ProcessingProfile, from_utc: datetime, to_utc: datetime) -> int:
    """Return how many entries a data set of a period can have, whatever was measured."""
    form = USE_CASES[profile.taf].form
    if form is Form.STAGES:
        return LAST_STAGE + 2  # the total and the error register
    if form is Form.EXTREMES:
        return 2 * (profile.extremes or Extremes()).count
    if form is Form.CREDIT:
        return 1
    if form is Form.END:
        return len(profile.measurands)
    step = timedelta(seconds=registration_step_s(profile))
    return -(-(to_utc - from_utc) // step) * len(profile.measurands)


def uniform_size(profile: ProcessingProfile, dataset: Dataset, *, empty_bytes: int) -> int:
    """Return the size that the documents of a profile and period have.

    Args:
        profile: the processing profile.
        dataset: whose period counts; nothing that was measured does.
        empty_bytes: size of the document without entries.
    """
    frame = '{"obis":"","meter":"","time_utc":"","value":,"unit":"","status":""},'
    signature = len(',"signature":""') + _SIGNATURE_CHARS if profile.signed_values else 0
    one = (
        len(frame)
        + _OBIS_CHARS
        + len(profile.meter)
        + len(utc_text(dataset.to_utc))
        + _VALUE_CHARS
        + _UNIT_CHARS
        + _STATUS_CHARS
        + signature
    )
    count = entries_at_most(profile, dataset.from_utc, dataset.to_utc)
    return empty_bytes + len(_PADDING) + count * one


def padded_document(
    profile: ProcessingProfile,
    dataset: Dataset,
    *,
    identity: str,
    gateway: str,
    communication: str,
    pseudonym: str = "",
) -> bytes:
    """Return `to_document` with "padding" behind its last field, so that its size tells nothing.

    What is longer than the bound (a unit of many characters) takes the next multiple of it.
    """
    names = {
        "identity": identity,
        "gateway": gateway,
        "communication": communication,
        "pseudonym": pseudonym,
    }
    empty = replace(dataset, entries=(), signatures=())
    document = to_document(dataset, **names)
    size = uniform_size(profile, dataset, empty_bytes=len(to_document(empty, **names)))
    room = size - len(document) - len(_PADDING)
    while room < 0:
        room += size
    return document[:-1] + _PADDING[:-1] + b"0" * room + b'"}'


def offset(key: bytes, profile: CommunicationProfile, end_utc: datetime) -> timedelta:
    """Return how much later than it could a delivery leaves: at least 0, less than `spread_s`.

    Args:
        key: 32 secret bytes of the gateway, the same for ever.
        profile: whose delivery.
        end_utc: end of its period.
    """
    if not profile.spread_s:
        return timedelta()
    text = f"{profile.id}\0{utc_text(end_utc)}".encode()
    number = int.from_bytes(hmac.new(key, text, hashlib.sha256).digest(), "big")
    return timedelta(milliseconds=number % (profile.spread_s * _MILLISECONDS))
