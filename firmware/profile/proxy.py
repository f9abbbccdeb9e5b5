"""Proxy profile: which channel a controllable local system (CLS) may have to a market participant. No I/O.

Such profiles are kept, checked, planned, staged, activated and rolled back with the set that they stand in.
No part of this firmware opens or takes a channel yet: whatever shows one says `NOT_SERVED` beside it.

What a profile binds (identity of the CLS, address and certificate of the participant, who opens, names,
limits), local names, `server_name`, the two ways of addressing and 48 hours as the longest session are from
BSI TR-03109-1 v2.0 details 11 and 13 and BSI TR-03116-3; the scenarios HKS 3 to 5 are from TR-03109-1 v1.
**Own knowledge**, so parameters with a default: idle time, volume, time windows, the regular openings of
HKS 5 (events are not built), the address of a CLS to which the gateway connects, more than one certificate
of a CLS. What fields must be *together* is checked in `firmware.profile.check_proxy`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from firmware.profile.fields import Name, Pem, Utc
from firmware.profile.tariffs import TimeOfDay

NOT_SERVED: Final = "kept, not served"
"""What is true of every proxy profile in this firmware."""
SESSION_LIMIT_S: Final = 48 * 3600
"""The longest a TLS session may last (BSI TR-03116-3)."""

Host = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9A-Za-z:]([0-9A-Za-z.:-]{0,251}[0-9A-Za-z:])?\Z",
        description="a host name or an IP address, without port and without brackets",
    ),
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
LocalName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9.-]{1,63}\Z",
        description="a local server name of lower-case letters, digits, '.' and '-', at most 63",
    ),
]
EndOfWindow = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z",
        description="a local time such as 06:00, or 24:00",
    ),
]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEK: Final[tuple[Weekday, ...]] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)
Suite = Literal[
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_128_CCM_SHA256",
]
SUITES: Final[dict[Literal["1.2", "1.3"], tuple[Suite, ...]]] = {
    "1.2": (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    ),
    "1.3": ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256"),
}
"""What BSI TR-03116-3 lists, by version of TLS, in the registered (IANA) names."""
CurveName = Literal["brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "secp256r1", "secp384r1"]


class TlsRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may be negotiated on one leg; a profile narrows BSI TR-03116-3 and never widens it."""

    versions: Annotated[tuple[Literal["1.2", "1.3"], ...], msgspec.Meta(min_length=1, max_length=2)] = (
        "1.2",
        "1.3",
    )
    suites: Annotated[tuple[Suite, ...], msgspec.Meta(min_length=1, max_length=7)] = (
        *SUITES["1.2"],
        *SUITES["1.3"],
    )
    curves: Annotated[tuple[CurveName, ...], msgspec.Meta(min_length=1, max_length=5)] = (
        "brainpoolP256r1",
        "brainpoolP384r1",
        "brainpoolP512r1",
        "secp256r1",
        "secp384r1",
    )


class ControllableSystem(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A CLS device in the home network, known by its certificates alone."""

    name: Name
    """As `cls_device` of a TAF 11 names it."""
    certificates: Annotated[tuple[Pem, ...], msgspec.Meta(min_length=1, max_length=4)]
    """Its HAN certificates, self-signed and pinned; more than one while they are being exchanged. Their end
    is the administrator's business and not enforced (BSI TR-03109-1 v2.0 details 4)."""
    host: Host | None = None
    """Where it listens, for channels that it does not open itself."""
    port: Port | None = None


class MarketParticipant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The active external market participant (EMT) that a channel leads to, and nobody else."""

    name: Name
    host: Host
    port: Port
    server_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] | None = None
    """What the gateway names in its ClientHello (SNI); absent: nothing."""
    tls_certificate: Pem


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time of the day, begin included and end not, on some days of the week; local time."""

    days: Annotated[tuple[Weekday, ...], msgspec.Meta(min_length=1, max_length=7)] = WEEK
    begins: TimeOfDay
    ends: EndOfWindow


class ChannelLimits(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """When an open channel is closed at the latest; each counts from its opening."""

    idle_s: Annotated[int, msgspec.Meta(ge=1, le=SESSION_LIMIT_S)] = 900
    """So long no byte passed in either direction."""
    duration_s: Annotated[int, msgspec.Meta(ge=1, le=SESSION_LIMIT_S)] = SESSION_LIMIT_S
    volume_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**50)] = 64 * 1024 * 1024
    """Payload of both directions together."""


class ProxyProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One channel between a CLS device and a market participant (Proxy-Kommunikationsprofil).

    Without such a profile there is no channel. TLS ends at the gateway on both sides; bytes pass unread.
    """

    id: Name
    consumer: Name
    """Whose device it is."""
    device: ControllableSystem
    emt: MarketParticipant
    opened_by: Annotated[
        tuple[Literal["cls", "emt", "gateway"], ...], msgspec.Meta(min_length=1, max_length=3)
    ]
    """"cls": the device (HKS 3); "emt": the participant, whose wish reaches the gateway by way of the
    administrator (HKS 4); "gateway": the gateway, by `open_every_s` (HKS 5)."""
    local_name: LocalName | None = None
    """By which the device asks for this channel (localServerName); required where it opens."""
    addressing: Annotated[
        tuple[Literal["socks-tls", "sni"], ...], msgspec.Meta(min_length=1, max_length=2)
    ] = (
        "socks-tls",
        "sni",
    )
    """How the device may say `local_name`: SOCKS 5 inside TLS, or the name in its ClientHello."""
    open_every_s: Annotated[int, msgspec.Meta(ge=60, le=366 * 86400)] | None = None
    """The gateway opens the channel at `valid_from` + k * this, k = 0, 1, ..., inside the windows."""
    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=64)] = ()
    """When the channel may be open: at their ends it is closed. None: at any time."""
    utc_offset_min: Annotated[int, msgspec.Meta(ge=-720, le=840)] = 60
    """Standard time of the windows, minutes east of UTC."""
    summer_time: Literal["eu", "none"] = "eu"
    """As in the switch table of TAF 2."""
    limits: ChannelLimits = ChannelLimits()
    han: TlsRules = TlsRules()
    """Between device and gateway."""
    wan: TlsRules = TlsRules()
    """Between gateway and participant."""
    valid_from: Utc
    valid_until: Utc | None = None
