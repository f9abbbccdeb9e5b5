"""What a demo run consists of: names, keys, times, profiles. No I/O but reading the published telegrams."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from lmn.wmbus.frame import from_format_a
from tools.homes.cards import Kind
from tools.homes.household import Household

MIN_GATEWAYS: Final = 4
"""A net of fewer would not survive the drop-out that the demo makes."""
BILLING, GROUP_TOTAL, STRANGER = "billing", "group-total", "stranger"
OBIS: Final = "1-0:1.8.0*255"
_WINDOW_S: Final = 0.3
"""To both sides of an instant: more than the pause between two telegrams."""
_REGULAR_PERIOD_S: Final = 900
"""From this registration period on a profile may not widen the window, 1 % of the period."""
NET_ID: Final = "00000000000000d1"
SUPPLIER: Final = "testemp"
GWA_POLL_S: Final = 0.25
METER_INTERVAL_S: Final = 0.2
_NOT_YET: Final = datetime.max.replace(tzinfo=UTC)
SHORTEST_SLOT_S: Final = 2
_SLOT_PER_BOOT: Final = 4
_LEAD_PER_BOOT: Final = 6
_REGULAR_GATEWAYS: Final = 5
"""What the two factors above are for."""
_LEAD_PER_START: Final = 1.5
_SHORTEST_LEAD_S: Final = 2.0
"""From the orders to the first slot: time to fetch profiles, publish key bundles and agree on a roster."""


@dataclass(frozen=True, slots=True)
class Published:
    """A telegram from outside, with the meter profile it is received under."""

    name: str
    gateway: int
    meter: str
    key_hex: str
    mode: str
    telegram: bytes


@cache
def published_telegrams() -> tuple[Published, ...]:
    """Read the published telegrams that the demo's sticks transmit."""
    document = json.loads((files("tools") / "demo" / "telegrams.json").read_text(encoding="utf-8"))
    return tuple(_published(entry) for entry in document["telegrams"])


def _published(entry: dict[str, Any]) -> Published:
    if "frame_a_hex" in entry:
        telegram = from_format_a(bytes.fromhex(entry["frame_a_hex"]))
    else:
        telegram = bytes.fromhex(entry["telegram_hex"])
    return Published(
        entry["name"], entry["gateway"], entry["meter"], entry["key_hex"], entry["mode"], telegram
    )


def heard_by(household: Household) -> Iterator[Published]:
    """The published telegrams that a home's stick transmits."""
    return (one for one in published_telegrams() if one.gateway == household.number)


@dataclass(frozen=True, slots=True)
class Plan:
    """How large, how long, and when."""

    folder: Path
    gateways: int
    slots: int
    slot_s: int
    """Length of a slot; 0 until `starting` chooses one that this machine can keep up with."""
    hsm: Kind = Kind.EMULATOR
    """Where the security module of the first home is; the others are emulated in their gateways."""
    t0_utc: datetime = _NOT_YET
    """Begin of the first slot; known once every gateway is up."""

    @property
    def households(self) -> tuple[Household, ...]:
        """All homes."""
        return tuple(Household(number) for number in range(1, self.gateways + 1))

    @property
    def drop_out(self) -> Household:
        """The home whose gateway is switched off during the second slot."""
        return self.households[-1]

    @property
    def drop_out_slot(self) -> int | None:
        """In which slot that is, counted from 0; None if the demo is too short for it."""
        return 1 if self.slots > 1 else None

    @property
    def billing_period_s(self) -> int:
        """At least two slots: a shorter period would tell what the net hides."""
        return max(self.slots, 2) * self.slot_s

    @property
    def end_utc(self) -> datetime:
        """When the billing period and the last slot are over."""
        return self.t0_utc + timedelta(seconds=self.billing_period_s)

    def starting(self, now_utc: datetime, *, start_s: float, boot_s: float) -> Plan:
        """Set the first slot to the next whole second that leaves enough time, and the length of the slots.

        Args:
            now_utc: aware.
            start_s: how long the administrator's process took to start; the supplier's is still to come.
            boot_s: how long it took to set up and boot a gateway: how fast machine and modules are.
        """
        share = max(1.0, self.gateways / _REGULAR_GATEWAYS)  # all of them work at once, on one machine
        lead_s = max(_SHORTEST_LEAD_S, _LEAD_PER_BOOT * boot_s * share**2)  # each agrees on a key with each
        begin = math.ceil(now_utc.timestamp() + _LEAD_PER_START * start_s + lead_s)
        slot_s = self.slot_s or max(SHORTEST_SLOT_S, math.ceil(_SLOT_PER_BOOT * boot_s * share))
        return replace(self, slot_s=slot_s, t0_utc=datetime.fromtimestamp(begin, UTC))

    def slot_start(self, slot: int) -> datetime:
        """Begin of a slot, counted from 0."""
        return self.t0_utc + timedelta(seconds=slot * self.slot_s)

    def net_policy(self) -> dict[str, Any]:
        """The net as the administrator orders it: a small one, and it says so."""
        return {
            "net_id": NET_ID,
            "slot_s": self.slot_s,
            "t0_utc": self.t0_utc.isoformat(),
            "n_min": self.gateways - 1,
            "d_min": self.gateways - 3,
            "delta": 0.34,
            "insecure_small_nets": True,
            "submit_s": round(0.55 * self.slot_s, 2),
            "manifest_s": round(0.8 * self.slot_s, 2),
            "open_s": round(0.97 * self.slot_s, 2),
            "poll_s": 0.05,
            "max_wh": 100_000,
            "n_max": 64,
        }

    def profiles(self, household: Household, suppliers: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The body of the order for one home; `suppliers` holds the peer entries by name."""
        common = {
            "meter": str(household.meter),
            "obis": OBIS,
            "consumer": household.consumer,
            "registration_period_s": self.slot_s,
            "window_s": _WINDOW_S if self.slot_s < _REGULAR_PERIOD_S else 0.0,
            "recipients": [SUPPLIER],
            "valid_from": self.t0_utc.isoformat(),
        }
        communication = [
            _communication(BILLING, BILLING, SUPPLIER, suppliers),
            _communication(GROUP_TOTAL, GROUP_TOTAL, SUPPLIER, suppliers)
            | {"concealment": "dc-net", "net": self.net_policy()},
        ]
        if household.number == 1:  # the attempt that the gate must deny: nobody gave this recipient a right
            communication.append(_communication(STRANGER, BILLING, STRANGER, suppliers))
        return {
            "meters": list(_meters(household)),
            "processing": [
                {"id": BILLING, "taf": 1, "billing_period_s": self.billing_period_s, **common},
                {"id": GROUP_TOTAL, "taf": 7, **common},
            ],
            "communication": communication,
        }


def _meters(household: Household) -> Iterator[dict[str, str]]:
    yield {
        "id": "electricity",
        "meter": str(household.meter),
        "key_hex": household.meter_key.hex(),
        "mode": "strict",
        "consumer": household.consumer,
    }
    for one in heard_by(household):
        yield {
            "id": one.name.lower(),
            "meter": one.meter,
            "key_hex": one.key_hex,
            "mode": one.mode,
            "consumer": household.consumer,
        }


def _communication(
    name: str, processing: str, recipient: str, suppliers: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    purpose = GROUP_TOTAL if processing == GROUP_TOTAL else BILLING
    return {
        "id": name,
        "processing": processing,
        "recipient": recipient,
        "purpose": purpose,
        "peer": suppliers[recipient],
    }
