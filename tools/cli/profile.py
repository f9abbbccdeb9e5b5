"""`smgw profile`: check profiles, show them, order them; ask for readings and report tariff events."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from firmware.profile.difference import Change
    from firmware.profile.model import ProfileSet
    from tools.counterparts.spool import Ordered

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

_VALIDATION: Final = 3
_GATEWAY_ID: Final = 14

FileArgument = typer.Argument(metavar="FILE", help="a TOML file of profiles", exists=True, dir_okay=False)
JsonOption = typer.Option("--json", help="one JSON object on standard output")
AdminOption = typer.Option("--admin", metavar="DIR", help="the administrator's folder")
GatewayOption = typer.Option("--gateway", metavar="ID", help="e.g. ESGW0100000001")
UndoOption = typer.Option(
    "--undo-concealment",
    metavar="ID",
    help="let this concealed profile be undone by a plain one; the consumer reads it in his log",
)
SmallNetsOption = typer.Option(
    "--insecure-small-nets", help="check as a gateway does whose gateway.toml allows them"
)


@app.callback()
def _root() -> None:
    """Profiles: what a gateway may measure, evaluate and send."""


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="TOML files of profiles")],
    small_nets: Annotated[bool, SmallNetsOption] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Check files as a gateway would; every fault with file, line and key, exit code 3 if there is any."""
    results = [_examine(path, small_nets=small_nets) for path in files]
    ok = all(not faults for faults, _ in results)
    if as_json:
        _print_json(
            {
                "ok": ok,
                "files": [
                    {"file": str(path), "ok": not faults, "faults": faults, "warnings": notes}
                    for path, (faults, notes) in zip(files, results, strict=True)
                ],
            }
        )
    else:
        for path, (faults, notes) in zip(files, results, strict=True):
            _print_findings(faults, notes)
            if not faults:
                sys.stdout.write(f"{path}: ok\n")
    if not ok:
        raise typer.Exit(_VALIDATION)


@app.command()
def show(file: Annotated[Path, FileArgument], as_json: Annotated[bool, JsonOption] = False) -> None:
    """Say in words what a file lets out: to whom, what, how often and how concealed. Shows no keys."""
    profiles = _load(file, small_nets=True, as_json=as_json)
    from firmware.enforcement.schedule import delivery_period_s, has_cycle

    rows: list[dict[str, Any]] = []
    for one in profiles.communication:
        processing = profiles.processing_of(one)
        if processing is None:
            continue
        concealed = one.net is not None
        calendar = None if concealed else processing.billing_calendar
        every_s = processing.registration_period_s if concealed else delivery_period_s(processing)
        rows.append(
            {
                "profile": one.id,
                "recipient": one.recipient,
                "purpose": one.purpose,
                "taf": processing.taf,
                "meter": processing.meter,
                "obis": processing.obis,
                "consumer": processing.consumer,
                "every_s": every_s if calendar is None and has_cycle(processing) else None,
                "every_months": None if calendar is None else calendar.months,
                "concealment": one.concealment,
                "members_at_least": None if one.net is None else one.net.n_min,
                "allowed": one.recipient in processing.recipients,
            }
        )
    if as_json:
        _print_json({"meters": [one.meter for one in profiles.meters], "sends": rows})
        return
    for meter in profiles.meters:
        key = "with key" if meter.key_hex else "without key"
        sys.stdout.write(f"receives {meter.meter} ({meter.mode.value}, {key}) of {meter.consumer}\n")
    for row in rows:
        sys.stdout.write(_sentence(row))
    if not rows:
        sys.stdout.write("sends nothing: no communication profile\n")


@app.command()
def plan(
    file: Annotated[Path, FileArgument],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    small_nets: Annotated[bool, SmallNetsOption] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Say what ordering a file would change, against what the gateway was ordered so far. Tells no key."""
    profiles = _load(file, small_nets=small_nets, as_json=as_json)
    from firmware.profile.difference import difference

    changes = difference(_ordered(admin, gateway).active, profiles)
    if as_json:
        _print_json({"gateway": gateway.lower(), "changes": [_change(one) for one in changes]})
        return
    for one in changes:
        whose = ", ".join(sorted(one.consumers)) or "nobody"
        sys.stdout.write(f"{one.kind.value:8}{one.table}/{one.identity}  (concerns {whose})\n")
        for field in one.fields:
            sys.stdout.write(f"          {field.place}: {field.before} -> {field.after}\n")
    if not changes:
        sys.stdout.write("no change\n")


@app.command()
def flash(
    file: Annotated[Path, FileArgument],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    stage: Annotated[
        bool, typer.Option("--stage", help="keep it checked; `activate` makes it active")
    ] = False,
    undo: Annotated[list[str] | None, UndoOption] = None,
    small_nets: Annotated[bool, SmallNetsOption] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Check a file and order it: signed into the administrator's spool, for the gateway's next call."""
    _demand_gateway(gateway)
    profiles = _load(file, small_nets=small_nets, as_json=as_json, undo=tuple(undo or ()))
    from firmware.profile.codec import to_json

    kind = "profiles.stage" if stage else "profiles"
    _order(admin, gateway, kind, json.loads(to_json(profiles)) | _override(undo), as_json=as_json)


@app.command()
def activate(
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    undo: Annotated[list[str] | None, UndoOption] = None,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Order that the set which was staged last becomes active."""
    staged = _ordered(admin, gateway).staged
    if staged is None:
        sys.stderr.write(f"nothing is staged for {gateway.lower()}; `smgw profile flash --stage` does that\n")
        raise typer.Exit(1)
    body = {"version": staged[0]} | _override(undo)
    _order(admin, gateway, "profiles.activate", body, as_json=as_json)


@app.command()
def rollback(
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    undo: Annotated[list[str] | None, UndoOption] = None,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Order that the set before the active one becomes active again: a new order with a new version."""
    if _ordered(admin, gateway).before is None:
        sys.stderr.write(f"there is no earlier set of {gateway.lower()} to go back to\n")
        raise typer.Exit(1)
    _order(admin, gateway, "profiles.rollback", _override(undo), as_json=as_json)


@app.command()
def request(
    communication: Annotated[str, typer.Argument(metavar="ID", help="communication profile that answers")],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Ask for a reading now: the snapshots of TAF 6, the present value of TAF 9."""
    _demand_gateway(gateway)
    _order(admin, gateway, "reading-request", {"communication": communication}, as_json=as_json)


@app.command()
def event(
    processing: Annotated[str, typer.Argument(metavar="ID", help="the processing profile that it concerns")],
    name: Annotated[str, typer.Argument(metavar="EVENT", help="the event's id in that profile")],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    at: Annotated[str | None, typer.Option(metavar="UTC", help="when it acts; at once if left out")] = None,
    amount: Annotated[int, typer.Option(min=0, help="of a top-up (TAF 12)")] = 0,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Report a tariff event (TAF 5), a switching (TAF 11) or a top-up (TAF 12)."""
    _demand_gateway(gateway)
    body: dict[str, Any] = {"processing": processing, "event": name, "amount": amount}
    _order(admin, gateway, "tariff-event", body | ({"at_utc": at} if at else {}), as_json=as_json)


def _override(undo: list[str] | None) -> dict[str, Any]:
    return {"undo_concealment": undo} if undo else {}


@app.command("wipe-consumer")
def wipe_consumer(
    consumer: Annotated[str, typer.Argument(metavar="NAME", help="whose values and log go, for good")],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Order that all of one consumer's data go; the active profiles must not be about him any more."""
    _demand_gateway(gateway)
    _order(admin, gateway, "wipe-consumer", {"consumer": consumer}, as_json=as_json)


@app.command("memory-limit")
def memory_limit(
    percent: Annotated[int, typer.Argument(min=1, max=100, help="how full a store may be")],
    admin: Annotated[Path, AdminOption],
    gateway: Annotated[str, GatewayOption],
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Order from when on memory is critical."""
    _demand_gateway(gateway)
    _order(admin, gateway, "memory-limit", {"percent": percent}, as_json=as_json)


@app.command("withdraw-peers")
def withdraw_peers(
    net: Annotated[str, typer.Argument(help="net id, 16 hexadecimal digits")],
    admin: Annotated[Path, AdminOption],
    peers: Annotated[
        list[str] | None, typer.Argument(help="gateway ids; none: allow everybody again")
    ] = None,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Order every own gateway in a DC-net to share no key with these peers any more."""
    from tools.counterparts import gwa
    from wan.errors import OrderRefused

    try:
        placed = gwa.withdraw_peers(admin, net, peers or [])
    except (OSError, ValueError, OrderRefused) as error:
        raise typer.BadParameter(f"{admin}: {error}") from error
    if as_json:
        _print_json({"ok": True, "message_ids": placed, "net": net})
    else:
        sys.stdout.write(f"ordered {len(placed)} gateways of net {net}\n")


def _demand_gateway(gateway: str) -> None:
    if len(gateway) != _GATEWAY_ID or not gateway.isascii() or not gateway.isalnum():
        raise typer.BadParameter("a gateway id has 14 letters and digits, e.g. ESGW0100000001")


def _ordered(admin: Path, gateway: str) -> Ordered:
    """What the administrator has ordered for a gateway so far."""
    _demand_gateway(gateway)
    from tools.counterparts.spool import profiles_ordered

    try:
        return profiles_ordered(admin, gateway.lower())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{admin}: {error}") from error


def _order(admin: Path, gateway: str, kind: str, body: dict[str, Any], *, as_json: bool) -> None:
    from tools.counterparts.gwa import place_order

    try:
        message_id = place_order(admin, gateway, kind, body)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{admin}: {error}") from error
    if as_json:
        _print_json({"ok": True, "message_id": message_id, "gateway": gateway.lower(), "kind": kind})
    else:
        sys.stdout.write(f"ordered {message_id} ({kind}) for {gateway.lower()}\n")


def _change(change: Change) -> dict[str, Any]:
    return {
        "profile": f"{change.table}/{change.identity}",
        "change": change.kind.value,
        "consumers": sorted(change.consumers),
        "fields": [{"place": one.place, "before": one.before, "after": one.after} for one in change.fields],
    }


def _load(path: Path, *, small_nets: bool, as_json: bool, undo: tuple[str, ...] = ()) -> ProfileSet:
    """Read a set that is fit to be activated; leave with the faults otherwise."""
    from firmware.profile.codec import from_toml

    faults, notes = _examine(path, small_nets=small_nets, undo=undo)
    if not as_json:
        _print_findings(faults, notes)
    elif faults:
        _print_json({"ok": False, "faults": faults})
    if faults:
        raise typer.Exit(_VALIDATION)
    return from_toml(path, small_nets_allowed=small_nets)


def _examine(path: Path, *, small_nets: bool, undo: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """Return the faults and the warnings of a file, each with its place."""
    from firmware.enforcement.determination import conflicts, grids
    from firmware.errors import ConfigurationRefused
    from firmware.profile.check import warnings
    from firmware.profile.codec import from_toml

    try:
        profiles = from_toml(path, small_nets_allowed=small_nets)
    except ConfigurationRefused as refused:
        return [str(fault) for fault in refused.faults], []
    undone = [
        f"{path}: communication: {conflict}"
        for conflict in conflicts(grids(profiles))
        if conflict.concealed not in undo
    ]
    return undone, [f"{path}: {note}" for note in warnings(profiles)]


def _print_findings(faults: list[str], notes: list[str]) -> None:
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    for note in notes:
        sys.stderr.write(f"warning: {note}\n")


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")


def _sentence(row: dict[str, Any]) -> str:
    members = row["members_at_least"]
    how = "as it is" if members is None else f"hidden among at least {members} gateways"
    when = "on request or event" if row["every_s"] is None else f"every {row['every_s']} s"
    if row["every_months"] is not None:
        when = "every month" if row["every_months"] == 1 else f"every {row['every_months']} months"
    right = "" if row["allowed"] else " (will be denied: the recipient has no right)"
    return (
        f"sends {row['obis']} of {row['meter']} to {row['recipient']} for {row['purpose']}, "
        f"{when}, {how}{right}\n"
    )
