"""gateway.toml and meters.toml to frozen values, paths resolved.

Of the other files that they name it looks at existence and mode, never at the content.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from firmware.document import Document, PortUrl, read_toml
from firmware.errors import ConfigurationRefused, Fault
from firmware.profile.fields import MeterText, ObisText
from firmware.profile.model import MeterProfile
from hsm.transport import WAYS, Emulator, Tcp, Way, parse_way
from lmn.model import MeterId
from lmn.sml.readings import Quirk
from lmn.wmbus.kinds import KINDS

PemFile = Annotated[Path, msgspec.Meta(extra={"check": "file"}, description="the path of a PEM file")]
SecretFile = Annotated[
    Path, msgspec.Meta(extra={"check": "secret"}, description="the path of a file of mode 0600")
]
DEVICE_ID: Final = "E[A-Z]{3}[0-9A-F]{2}[0-9]{8}"
"""Of a gateway, as a regular expression: DIN 43849."""
GatewayId = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^{DEVICE_ID}\Z",
        description='14 characters of a device id (DIN 43849), e.g. "ESGW0100000001"',
    ),
]
TransportText = Annotated[
    str, msgspec.Meta(extra={"check": "transport"}, description=f"how the module is reached: {WAYS}")
]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253, description="a host name or an address")]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535, description="a port number, 1 to 65535")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400, description="seconds, above 0, at most 86400")]


class GatewayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway itself."""

    id: GatewayId
    state: Path
    """Folder of the three partitions; made at the first start."""
    program: Literal["follow", "pinned"] = "follow"
    """What a start does with another program than the last one: logs it, or lets nothing run but the control
    socket. A start with "follow" makes the program there the known one."""


class ModuleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The security module and how it is reached."""

    transport: TransportText = "emulator"
    state: Path | None = None
    """Folder of the emulated card; a real one needs none."""
    pin_file: SecretFile
    """Holds the PACE-PIN; also a systemd credential."""
    insecure_remote: bool = False
    """Allows a TCP transport that leaves this machine."""

    def __post_init__(self) -> None:
        way = parse_way(self.transport)
        if isinstance(way, Emulator) and self.state is None:
            raise ValueError("the emulator needs module.state, the folder of its card")
        if isinstance(way, Tcp) and way.remote and not self.insecure_remote:
            raise ValueError(
                "a module reached over a network can be cut off by anyone on it; "
                "module.insecure_remote = true allows it"
            )

    @property
    def way(self) -> Way:
        """How the module is reached."""
        way = parse_way(self.transport)
        return Emulator(self.state) if isinstance(way, Emulator) else way


class StickTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of radio meters."""

    kind: Literal[
        "im871a", "iu891a", "amb8465", "cul", "rc1180", "rtl_wmbus", "rtl_433", "replay", "auto"
    ] = "im871a"
    """What it is; "auto" asks this one port, at each start of the stick's service."""
    port: PortUrl
    """A serial device; for rtl_wmbus and rtl_433 a named pipe, for replay a file of recorded telegrams."""
    mode: Literal["T1", "C1", "S1", "C1+T1"] | None = None
    """Radio mode; the kind's default if None."""

    def __post_init__(self) -> None:
        if self.kind == "auto":
            if self.mode is not None:
                raise ValueError('a radio mode needs a kind: what is found by "auto" may not have it')
        elif self.mode is not None and self.mode not in KINDS[self.kind].modes:
            kind = KINDS[self.kind]
            raise ValueError(f"{kind.title} can be set to {', '.join(kind.modes)} only")


class HeadTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One infrared head in front of a meter that pushes its values."""

    port: PortUrl
    """A serial device, or a URL such as socket://host:port."""
    meter: MeterText
    """As its meter profile names it; the profile's mode must be "open": nothing protects these values."""
    server_id: Annotated[
        str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){1,32}\Z", description="lower-case hexadecimal digits")
    ]
    """What the meter's frames name, as `smgw decode sml` shows it."""
    quirks: tuple[Quirk, ...] = ()
    baudrate: Annotated[int, msgspec.Meta(ge=300, le=921600)] = 9600


class WiredMeterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One meter on an RS-485 line."""

    meter: MeterText
    """As its meter profile names it."""
    server_id: Annotated[
        str, msgspec.Meta(pattern=r"^[0-9a-f]{20}\Z", description="20 lower-case hexadecimal digits")
    ]
    certificate: PemFile | None = None
    """The meter's own certificate, as its maker delivers it; pinned. None: the gateway makes key and
    certificate, and the meter is paired under the master key of its meter profile."""
    registers: Annotated[tuple[ObisText, ...], msgspec.Meta(min_length=1, max_length=64)]


class Rs485Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One RS-485 line. Rate and addresses with a role are own knowledge, so they can be set."""

    port: PortUrl
    baudrate: Annotated[int, msgspec.Meta(ge=9600, le=921600)] = 921600
    poll_s: Seconds = 5.0
    primary: Annotated[int, msgspec.Meta(ge=1, le=127)] = 1
    unnamed: Annotated[int, msgspec.Meta(ge=1, le=127)] = 2
    broadcast: Annotated[int, msgspec.Meta(ge=1, le=127)] = 127
    slots: Annotated[int, msgspec.Meta(ge=1, le=255)] = 8
    """In which meters without an address answer a call."""
    slot_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.02
    sym_mac_bytes: Literal[8, 16] = 16
    """Of the pairing messages."""
    renew_days: Annotated[int, msgspec.Meta(ge=1, le=1095)] = 90
    """So long before it is over a certificate is renewed; with several lines the longest one counts."""
    meter: tuple[WiredMeterTable, ...] = ()

    def __post_init__(self) -> None:
        special = {self.primary, self.unnamed, self.broadcast}
        if len(special) != 3 or any(3 <= each <= 126 for each in special):
            raise ValueError("primary, unnamed and broadcast differ, and none is from 3 to 126")
        if len({each.server_id for each in self.meter}) != len(self.meter):
            raise ValueError("each meter has a server id of its own")


class LmnTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The meters' side."""

    meters: SecretFile | None = None
    """Meter profiles of a gateway that runs without an administrator; holds keys."""
    stick: tuple[StickTable, ...] = ()
    head: tuple[HeadTable, ...] = ()
    rs485: tuple[Rs485Table, ...] = ()

    def __post_init__(self) -> None:
        ports = [*(each.port for each in self.stick), *(each.port for each in self.head)]
        ports += [each.port for each in self.rs485]
        if len(ports) != len(set(ports)):
            raise ValueError("each stick, head and line has a port of its own")


class GwaTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The administrator: where it is, and the certificates that are pinned."""

    name: str = "gwa"
    host: Host
    port: PortNumber
    server_name: Host
    tls_certificate: PemFile
    sig_certificate: PemFile
    poll_s: Seconds = 60.0


class WanTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wide area network: anchors of the SM-PKI, the gateway's own certificates, the administrator."""

    root: PemFile
    sub_ca: PemFile
    tls: PemFile
    sig: PemFile
    enc: PemFile
    gwa: GwaTable
    alarm_after_hours: Annotated[float, msgspec.Meta(ge=0.1, le=8760)] = 24.0
    """The administrator is told of data that a recipient has not taken for so long."""
    give_up_after_days: Annotated[float, msgspec.Meta(ge=0, le=3650)] = 30.0
    """So long data wait for a recipient whom no profile names any more, in case one does again."""


class DcnetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this gateway allows of DC-nets."""

    insecure_small_nets: bool = False


class StoreTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the stores."""

    system_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    consumer_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 2048
    calibration_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    """To what size each partition may grow."""
    interval_months: Annotated[int, msgspec.Meta(ge=1, le=1200)] = 24
    consumption_months: Annotated[int, msgspec.Meta(ge=1, le=1200)] = 36
    """How long registered values and what is derived from them are kept."""
    checkpoint_hours: Annotated[float, msgspec.Meta(ge=0.1, le=8760)] = 1.0
    """How often the module's counter is increased: copies older than that are noticed, also after a kill."""
    checkpoint_commits: Annotated[int, msgspec.Meta(ge=100)] = 10_000
    """After so many transactions it is increased before."""
    key_change_days: Annotated[int, msgspec.Meta(ge=0, le=36500)] = 365
    """How often the partition keys are changed; 0: never by itself."""


Entries = Annotated[
    int, msgspec.Meta(ge=1000, le=10_000_000, description="a number of entries, at least 1000")
]


class LogTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Diagnostics for operators, and how much the three legal logs hold."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    seal_s: Seconds = 900.0
    """Seconds between two seals of the legal logs."""
    system_entries: Entries = 100_000
    consumer_entries: Entries = 100_000
    calibration_entries: Entries = 100_000
    """The calibration log forgets nothing: full, measuring stops."""
    consumer_days: Annotated[int, msgspec.Meta(ge=0, le=36525)] = 457
    """Younger entries of a consumer's log are never forgotten."""


class TimeTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gateway keeps its time. All of it is own knowledge, so it can be set."""

    poll_s: Seconds = 16.0
    host_error_s: Seconds = 0.01
    """How wrong the host's clock is at most."""
    drift_ppm: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 100.0
    stop_on_deviation: bool = False
    """A clock that was wrong stops measuring until it is right again; else values go on and are marked."""


class TamperTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tamper contact: a file that is there when the enclosure was opened, or a GPIO line."""

    input: Path
    """A file that need not be there yet; with `line`, the device of a GPIO chip, e.g. /dev/gpiochip0."""
    line: Annotated[int, msgspec.Meta(ge=0, le=1023)] | None = None
    active_low: bool = False
    pull_up: bool = True


class ControlTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As whom the gateway's own user, and root, are answered at the control socket."""

    roles: tuple[Literal["service-tech", "gwa"], ...] = ("service-tech",)
    """Beside that of a consumer, which takes the consumer's code. An administrator proves himself by signed
    orders; "gwa" here lets the machine's owner stand in for him."""


class MemoryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when on memory is critical: measuring stops until there is room again."""

    critical_bytes: Annotated[int, msgspec.Meta(ge=0)] = 32 << 20
    """Less is free on the disk."""
    critical_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = 90
    """A store has reached so much of its room; the administrator can set another limit by order."""


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """gateway.toml; all paths are resolved relative to that file."""

    gateway: GatewayTable
    module: ModuleTable
    lmn: LmnTable | None = None
    wan: WanTable | None = None
    dcnet: DcnetTable = DcnetTable()
    store: StoreTable = StoreTable()
    log: LogTable = LogTable()
    time: TimeTable = TimeTable()
    tamper: TamperTable | None = None
    memory: MemoryTable = MemoryTable()
    control: ControlTable = ControlTable()

    def __post_init__(self) -> None:
        if self.gateway.state == self.module.state:
            raise ValueError(
                "gateway.state and module.state are two folders: a module is not kept beside its data"
            )

    def wired_meters(self) -> frozenset[MeterId]:
        """Return the meters that are read by wire."""
        if self.lmn is None:
            return frozenset()
        heads = [head.meter for head in self.lmn.head]
        named = [*heads, *(one.meter for line in self.lmn.rs485 for one in line.meter)]
        return frozenset(MeterId.from_text(name) for name in named)


class MetersFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """meters.toml: the same meter profiles that an administrator would send."""

    meter: tuple[MeterProfile, ...] = ()


def load(path: Path) -> GatewayConfig:
    """Read gateway.toml, and meters.toml if it names one.

    Raises:
        ConfigurationRefused: lists every fault of both files.
    """
    document: Document[GatewayConfig] | None = None
    faults = []
    try:
        document = read_toml(path, GatewayConfig, checks=CHECKS)
    except ConfigurationRefused as refused:
        faults += refused.faults
    if document is not None and document.value.lmn is not None and document.value.lmn.meters is not None:
        try:
            load_meters(document.value.lmn.meters)
        except ConfigurationRefused as refused:
            faults += refused.faults
    if document is None or faults:
        raise ConfigurationRefused(faults)
    return document.value


def load_meters(path: Path) -> tuple[MeterProfile, ...]:
    """Read meters.toml.

    Raises:
        ConfigurationRefused: lists every fault; also a profile id or a meter that is named twice.
    """
    document = read_toml(path, MetersFile)
    faults = []
    seen: dict[tuple[str, str], int] = {}
    for position, profile in enumerate(document.value.meter):
        for key in ("id", "meter"):
            first = seen.setdefault((key, getattr(profile, key)), position)
            if first != position:
                faults.append(
                    document.fault(("meter", position, key), f"another one than that of meter[{first}]")
                )
    if faults:
        raise ConfigurationRefused(faults)
    return document.value.meter


def read_secret(path: Path) -> bytes:
    """Return the content of a secret's file without the white space around it; read anew at each call.

    Raises:
        ConfigurationRefused: missing, empty, or readable by others (again: it may have changed since `load`).
    """
    expected = _secret_file(path)
    if expected is not None:
        raise ConfigurationRefused([Fault(str(path), None, "(file)", expected)])
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationRefused(
            [Fault(str(path), None, "(file)", f"a readable file ({error.strerror})")]
        ) from error
    if not secret:
        raise ConfigurationRefused([Fault(str(path), None, "(file)", "a file that is not empty")])
    return secret


def read_optional_secret(path: Path) -> bytes | None:
    """Return what `read_secret` does, None if there is no such file; ConfigurationRefused as there."""
    return read_secret(path) if path.exists() else None


def _plain_file(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"an existing file ({path}: {error.strerror})"
    return None if stat.S_ISREG(mode) else f"a file ({path} is none)"


def _secret_file(path: Path) -> str | None:
    expected = _plain_file(path)
    if expected is None and path.stat().st_mode & 0o077:
        return f"a file of mode 0600 ({path} can be read by others; chmod 600 helps)"
    return expected


def _transport(text: str) -> str | None:
    try:
        way = parse_way(text)
    except ValueError as expected:
        return str(expected)
    return WAYS + "; the folder is module.state" if isinstance(way, Emulator) and way.folder else None


CHECKS: Final[dict[str, Callable[[Any], str | None]]] = {
    "file": _plain_file,
    "secret": _secret_file,
    "transport": _transport,
}
"""What fields marked so must be on the disk."""
