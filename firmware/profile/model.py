"""Meter, processing, communication and proxy profile as values: one definition for TOML, JSON, code. No I/O.

Field evidence: BSI TR-03109-1 v2.0 details and shipped devices (docs/references.md); the DC-net fields are
the project's own use case (docs/dcnet.md). What a single field may be is said here; what fields must be
*together* is checked in `firmware.profile.check`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from firmware.profile.fields import MeterText, Name, ObisText, Pem, Seconds, Title, UsagePoint, Utc
from firmware.profile.proxy import ProxyProfile
from firmware.profile.tariffs import (
    BillingCalendar,
    ConsumptionVariable,
    Control,
    EventVariable,
    Extremes,
    FeedIn,
    GridState,
    HighFrequency,
    LoadVariable,
    OnDemand,
    Prepaid,
    TimeVariable,
    Visualisation,
)
from lmn.ports import ReceptionMode

MIN_SECURE_MEMBERS: Final = 16
"""Absolute floor of an anonymity set (docs/dcnet.md, anonymity-set rule); fewer only with
`insecure_small_nets`."""


class MeterProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One meter: how it is received and to whom its values belong (Zählerprofil)."""

    id: Name
    meter: MeterText
    key_hex: Annotated[
        str, msgspec.Meta(pattern=r"^([0-9A-Fa-f]{32})?\Z", description="32 hexadecimal digits, or empty")
    ] = ""
    """16 bytes: the meter's own key or its master key; empty: it has none."""
    mode: ReceptionMode = ReceptionMode.STRICT
    consumer: Name

    def __repr__(self) -> str:
        return (
            f"MeterProfile({self.id}, {self.meter}, {self.mode.value}, key={'yes' if self.key_hex else 'no'})"
        )


class ProcessingProfile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is made of one meter's measurands, for whom and until when (Auswertungsprofil).

    Registration instants are `valid_from` + k * `registration_period_s`, k = 0, 1, ..., up to and including
    `valid_until`; deliveries happen after `valid_from` + j * delivery period, j = 1, 2, ..., or where months
    of the billing calendar end, and for the rest of the last period at its end. Absent fields are not
    written, so that a set without them reads the same in versions that do not know them.
    """

    id: Name
    taf: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    meter: MeterText
    obis: ObisText
    more_obis: Annotated[tuple[ObisText, ...], msgspec.Meta(max_length=32)] = ()
    """Further measurands of the same meter, registered at the same instants; only where the use case is a
    list of
    values."""
    more_meters: Annotated[tuple[MeterText, ...], msgspec.Meta(max_length=16)] = ()
    """Further meters of the same consumer, only where a net conceals every result: the energies of all are
    added in the gateway, and the net gets one value for a slot."""
    consumer: Name
    registration_period_s: Seconds
    billing_period_s: Seconds | None = None
    """How much one delivery covers. TAF 1 to 5, 8 and 12: the billing period, required for TAF 1. Absent: the
    registration period for TAF 9, 10, 13 and 14, else a day; without effect where values are concealed."""
    billing_calendar: BillingCalendar | None = None
    """Calendar months in place of `billing_period_s`. The first period begins at `valid_from` and ends with
    the month that it lies in."""
    registers: Literal["period", "running"] = "period"
    """What the registers of TAF 2 to 5 hold: what was used in the period, or what was used since this profile
    became active with its present content, over all periods."""
    window_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """A wider acceptance window (to both sides of the instant) than 1 % of the period, for short periods
    only."""
    status_bits: Literal["oms", "reversed"] = "oms"
    """How the bytes of a radio meter's status stand in the status word: as OMS numbers their bits, or
    each byte turned round (`firmware.metering.status`)."""
    signed_values: bool = False
    """Whether each delivered value carries its own signature (`firmware.metering.signature`)."""
    recipients: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    usage_point: UsagePoint | None = None
    """Where is measured, as the market calls it; stands in what is delivered under a name."""
    tariff: Title | None = None
    """Name of the tariff, for who bills; stands in what is delivered under a name."""
    valid_from: Utc
    valid_until: Utc | None = None
    time_variable: TimeVariable | None = None
    load_variable: LoadVariable | None = None
    consumption_variable: ConsumptionVariable | None = None
    event_variable: EventVariable | None = None
    on_demand: OnDemand | None = None
    extremes: Extremes | None = None
    feed_in: FeedIn | None = None
    grid_state: GridState | None = None
    control: Control | None = None
    prepaid: Prepaid | None = None
    visualisation: Visualisation | None = None
    high_frequency: HighFrequency | None = None

    @property
    def measurands(self) -> tuple[str, ...]:
        """All OBIS codes that are registered, the first one first."""
        return (self.obis, *self.more_obis)

    @property
    def meters(self) -> tuple[str, ...]:
        """All meters whose values are registered, the first one first."""
        return (self.meter, *self.more_meters)


class PeerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address and pinned end-entity certificates of a recipient."""

    name: Name
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    server_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    tls_certificate: Pem
    sig_certificate: Pem | None = None
    enc_certificate: Pem | None = None


class NetPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one DC-net as the administrator sets them; the gateway enforces them against the supplier.

    Slot k covers the time from `t0_utc` + k * `slot_s` to `t0_utc` + (k + 1) * `slot_s`; its energy is
    contributed after it has ended. The three deadlines count from the end of the slot.
    """

    net_id: Annotated[
        str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z", description="16 lower-case hexadecimal digits")
    ]
    slot_s: Seconds
    t0_utc: Utc
    n_min: Annotated[int, msgspec.Meta(ge=3, le=1_000_000)] = 128
    """Smallest component in which a gateway opens (N_min)."""
    d_min: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 12
    """Smallest number of present neighbours with which a gateway opens."""
    delta: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.05
    """Largest share of the present members that a manifest may leave out."""
    recovery: Literal["none", "witness"] = "none"
    """What becomes of a slot in which an accepted member does not open: it is aborted, or the administrators
    co-sign one order to recover it."""
    lanes: tuple[Literal["import", "export", "canary"], ...] = ("import", "export", "canary")
    """Import and export in 0.1 Wh, the canary is 1."""
    insecure_small_nets: bool = False
    submit_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    manifest_s: Annotated[float, msgspec.Meta(gt=0)] = 240.0
    open_s: Annotated[float, msgspec.Meta(gt=0)] = 360.0
    poll_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    max_wh: Annotated[int, msgspec.Meta(ge=1, le=2**48)] = 1_000_000
    """Largest energy of one slot that a gateway contributes; beyond it the slot is refused."""
    n_max: Annotated[int, msgspec.Meta(ge=3, le=1_000_000)] = 4096
    """Largest number of members; n_max * max_wh * 10 must stay below 2**63 so that no sum wraps, with
    reconcile slots n_max * max_wh * 10 * reconcile_slots."""
    recover_s: Annotated[float, msgspec.Meta(gt=0)] = 480.0
    """Until when shares for lost members are taken; without effect unless `recovery` is "witness"."""
    reconcile_slots: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 2976
    """So many slots make one period, at whose end all that is owed goes into one sum; 0: never."""
    n_start: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Fewest members of a net's first roster; 0: n_min, or the next number that has a key graph."""
    churn_min: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    """Between two rosters nobody changes, or at least so many do."""
    epoch_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 86400
    """Length of an epoch. Another one than a day needs `insecure_small_nets`."""
    roster_pause_s: Annotated[int, msgspec.Meta(ge=0, le=31_536_000)] = 86400
    """Least time between two rosters. Another one than a day needs `insecure_small_nets`."""
    bridges: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """Edges at each joint of two cells; 0 with one cell, else at least 16."""
    calendar: Literal["none", "signed"] = "none"
    """Whether the supplier may block slots by calendars that it signs."""
    k: Annotated[int, msgspec.Meta(ge=2, le=128, multiple_of=2)] = 16
    """Most neighbours of a member of a net of more than 64."""
    cells: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """So many nets in a circle, each with a key graph of its own, are joined by `bridges` into this one."""
    v_slots: Annotated[int, msgspec.Meta(ge=0, le=2976)] = 0
    """For so many slots at once the supplier may order commitments to the readings, with proof that they lie
    in their range (V-mode); 0: never."""
    m: Annotated[int, msgspec.Meta(ge=2, le=16)] = 8
    """How many neighbours hold a share of a seed; like the next two only with `recovery` "witness"."""
    t: Annotated[int, msgspec.Meta(ge=2, le=16)] = 5
    """How many of them give the seed; fewer than 5 need `insecure_small_nets`."""
    f_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Most lost neighbours that a member may have in one recovery."""


class CommunicationProfile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Which result goes to which recipient, for what, and how it is concealed (Kommunikationsprofil)."""

    id: Name
    processing: Name
    recipient: Name
    purpose: Literal["billing", "group-total", "grid", "service"]
    peer: PeerEntry
    concealment: Literal["none", "dc-net"] = "none"
    net: NetPolicy | None = None
    pseudonymised: bool = False
    """Whether results leave under a pseudonym, by way of the administrator, in place of the ids of gateway,
    meter and profile. Not for billing."""
    spread_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """A delivery leaves at an instant, which nobody outside can foretell, of the so many seconds after the
    acceptance window of its period's end, and before the next one is due. Not for a DC-net, whose deadlines
    are its own."""


class ProfileSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that is active together; the body of an order of kind "profiles".

    Empty tables are not written, so that a set without proxy profiles reads the same in versions that do not
    know them.
    """

    meters: tuple[MeterProfile, ...] = ()
    processing: tuple[ProcessingProfile, ...] = ()
    communication: tuple[CommunicationProfile, ...] = ()
    proxy: Annotated[tuple[ProxyProfile, ...], msgspec.Meta(max_length=64)] = ()

    def processing_of(self, communication: CommunicationProfile) -> ProcessingProfile | None:
        """Return the processing profile that `communication` sends, None if there is none of that name."""
        return next((profile for profile in self.processing if profile.id == communication.processing), None)
