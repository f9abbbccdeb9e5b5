"""Pseudonyms: under which name a data set leaves that must not say whose it is. Pure; the secret is given.

A pseudonym is a keyed hash of profile, recipient, consumer and meter: the same from delivery to delivery and
after a restart, another one for each recipient and after each change of tenant, and unknown to everybody who
does not have the gateway's secret. Ids of messages are made the same way, because the ordinary ones begin
with the gateway's id; they do not show which pseudonym they belong to, so that the administrator, who
forwards them, learns none (PP-0073, FPR_PSE.1; docs/tariffs.md says what is known of how).
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Final

from firmware.metering.dataset import utc_text
from firmware.profile.model import CommunicationProfile, ProcessingProfile

KEY_BYTES: Final = 32
_CHARS: Final = 32


class Pseudonyms:
    """Makes pseudonyms of one secret.

    Args:
        key: 32 secret bytes of the gateway, the same for ever.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms()"

    def of(self, communication: CommunicationProfile, processing: ProcessingProfile) -> str:
        """Return the pseudonym of a profile's deliveries, 32 hexadecimal digits."""
        return self._hash(
            "pseudonym", communication.id, communication.recipient, processing.consumer, processing.meter
        )

    def message_id(self, communication: CommunicationProfile, to_utc: datetime, occasion: str) -> str:
        """Return the id of one delivery, 32 hexadecimal digits; the same period gives the same id."""
        return self._hash("message", communication.id, utc_text(to_utc), occasion)

    def _hash(self, *parts: str) -> str:
        text = "\0".join(parts).encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:_CHARS]
