"""`smgw log`: the legal logs of a running gateway, and the check of an exported one anywhere."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from firmware.enforcement.roles import Role
from firmware.log.export import CheckCertificate, Verdict, check_export
from hsm.api import CertificateUse, PublicKey
from hsm.errors import CertificateRefused, MalformedSignature, PointRefused
from hsm.x509 import Certificate, check_path, load_pem_chain, verify
from tools.cli.consumer_code import CodeOption, code, code_of
from tools.cli.controlled import NotReached, ask
from tools.cli.plain_words import Lang, language, sentence
from wan.pki.profile import gateway_of

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml")]
AfterOption = Annotated[int, typer.Option(min=0, help="only entries after this number")]
NewestOption = Annotated[int | None, typer.Option(min=1, help="only so many of the newest")]
FromOption = Annotated[
    datetime | None,
    typer.Option("--from", help="UTC; entries from then on", formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]),
]
ToOption = Annotated[
    datetime | None,
    typer.Option("--to", help="UTC; entries until then", formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]),
]
ExportOption = Annotated[
    Path | None, typer.Option("--export", metavar="FILE", help="write a file that `smgw log verify` checks")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]
RoleOption = Annotated[Role, typer.Option(help="as whom; the gateway's role table decides")]
_LEVELS: Final = {1: "info", 2: "warning", 3: "error", 4: "fatal", 5: "extension"}


@app.callback()
def _root() -> None:
    """The three legal logs. Who may read which: docs/logs.md."""


app.command("code")(code)


@app.command()
def system(
    configuration: ConfigOption,
    role: RoleOption = Role.SERVICE_TECH,
    after: AfterOption = 0,
    newest: NewestOption = None,
    from_utc: FromOption = None,
    to_utc: ToOption = None,
    export: ExportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the system log: operation and security; for the administrator and the service technician."""
    _read(configuration, "system", role, "", _range(after, newest, from_utc, to_utc), export, as_json=as_json)


@app.command()
def consumer(
    configuration: ConfigOption,
    name: Annotated[str, typer.Option("--consumer", help="whose log; read as that consumer")],
    role: RoleOption = Role.CONSUMER,
    code_file: CodeOption = None,
    after: AfterOption = 0,
    newest: NewestOption = None,
    from_utc: FromOption = None,
    to_utc: ToOption = None,
    export: ExportOption = None,
    lang: Annotated[Lang | None, typer.Option(help="of the sentences; else that of LANG")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a consumer's log in plain words: what left, to whom, when, hidden among how many."""
    what = _range(after, newest, from_utc, to_utc)
    chosen = lang or language(os.environ)
    try:
        shown = code_of(code_file, name) if role is Role.CONSUMER else ""
    except OSError as error:
        print(f"smgw log: {code_file}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    _read(configuration, "consumer", role, name, what, export, as_json=as_json, lang=chosen, shown=shown)


@app.command()
def calibration(
    configuration: ConfigOption,
    role: RoleOption = Role.GWA,
    after: AfterOption = 0,
    newest: NewestOption = None,
    from_utc: FromOption = None,
    to_utc: ToOption = None,
    export: ExportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the calibration log: metrology alone; for the administrator."""
    what = _range(after, newest, from_utc, to_utc)
    _read(configuration, "calibration", role, "", what, export, as_json=as_json)


@app.command("verify")
def verify_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what --export wrote")],
    root: Annotated[
        Path | None, typer.Option(metavar="PEM", help="the PKI's root: whose key has sealed the log")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="show the entries, too")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check an export: chain, seals, closing signature, with --root also the certificate. No gateway needed.

    Exit code 0 if nothing wrong was found; what the file cannot show is said in any case.
    """
    try:
        data = file.read_bytes()
        anchors = [] if root is None else load_pem_chain(root.read_bytes())
    except (OSError, CertificateRefused) as error:
        print(f"smgw log: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    verdict = check_export(data, _holds, None if root is None else _path_to(anchors))
    if as_json:
        print(json.dumps(_plain(verdict)))
    else:
        _show_verdict(verdict, Console(), show=show)
    raise typer.Exit(0 if verdict.ok else 1)


def _range(
    after: int, newest: int | None, from_utc: datetime | None, to_utc: datetime | None
) -> dict[str, Any]:
    what: dict[str, Any] = {"after": after, "newest": newest}
    for name, at in (("from_utc", from_utc), ("to_utc", to_utc)):
        if at is not None:
            what[name] = at.isoformat() + "Z"
    return what


def _read(
    configuration: Path,
    log: str,
    role: Role,
    name: str,
    what: dict[str, Any],
    export: Path | None,
    *,
    as_json: bool,
    lang: Lang | None = None,
    shown: str = "",
) -> None:
    request = {"log": log, "role": role.value, "consumer": name, "name": name, **what}
    if shown:
        request["consumer_code"] = shown
    try:
        answer = ask(configuration, op="log" if export is None else "export", **request)
        if export is not None:
            _write(export, answer["export"])
    except (NotReached, OSError) as error:
        print(f"smgw log: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if export is not None:
        count = answer["export"].count("\n") - 2
        print(
            json.dumps({"file": str(export), "entries": count}) if as_json else f"{export}: {count} entries"
        )
        return
    if as_json:
        print(json.dumps(answer))
    elif lang is not None:
        for entry in answer["entries"]:
            print(f"{entry['at_utc'][:16].replace('T', ' ')} UTC  {sentence(entry, lang)}")
        if not answer["entries"]:
            print("keine Einträge" if lang is Lang.DE else "no entries")
    else:
        _show_entries(answer["entries"], Console())


def _write(file: Path, content: str) -> None:
    """Write an export for its owner alone: what a consumer's log tells is nobody else's business."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(content)


def _show_entries(entries: list[dict[str, Any]], console: Console) -> None:
    for entry in entries:
        failed = " FAILED" if entry["outcome"] == 1 else ""
        parts = [entry["sub_event"], entry["subject"], entry["text"]]
        if entry["destination"]:
            parts.append(f"to {entry['destination']}")
        parts += [f"{key}={value}" for key, value in entry["evidence"].items() if value]
        if entry["repeated"]:
            parts.append(f"and {entry['repeated']} more")
        at, level = entry["at_utc"][:19], _LEVELS[entry["level"]]
        line = f"{entry['number']:>7} {at}Z {level:<7} {entry['event']}{failed}"
        _say(console, f"{line}  {'; '.join(part for part in parts if part)}")
    if not entries:
        console.print("no entries")


def _say(console: Console, text: str) -> None:
    """Print one line as one line, also into a pipe: whoever greps wants it whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _holds(key: PublicKey, digest: bytes, signature: bytes) -> bool:
    try:
        return verify(key, digest, signature)
    except (MalformedSignature, PointRefused):
        return False


def _path_to(anchors: list[Certificate]) -> CheckCertificate:
    def check(texts: tuple[str, ...], at_utc: datetime, gateway: str) -> PublicKey:
        try:
            chain = [one for text in texts for one in load_pem_chain(text.encode())]
            if not chain:
                raise ValueError("the export holds no certificate")
            check_path(chain[0], chain[1:], anchors, at_utc=at_utc, use=CertificateUse.SIG)
        except CertificateRefused as refused:
            raise ValueError(f"certificate: {refused}") from refused
        if gateway_of(chain[0].subject_cn) != gateway:
            raise ValueError(f"the certificate is of {chain[0].subject_cn}, the log of {gateway}")
        return chain[0].public_key

    return check


def _plain(verdict: Verdict) -> dict[str, Any]:
    header = verdict.header
    return {
        "ok": verdict.ok,
        "first_broken": verdict.first_broken,
        "gateway": None if header is None else header.gateway,
        "log": None if header is None else header.log,
        "entries": len(verdict.entries),
        "seals": verdict.seals,
        "signed": verdict.signed,
        "certified": verdict.certified,
        "findings": [{"kind": one.kind, "entry": one.entry, "text": one.text} for one in verdict.findings],
        "limits": verdict.limits,
    }


def _show_verdict(verdict: Verdict, console: Console, *, show: bool) -> None:
    header = verdict.header
    if header is not None:
        span = f"entries {header.after + 1} to {header.after + header.count}"
        when = f"{header.exported_utc:%Y-%m-%d %H:%M:%S} UTC"
        text = f"log {header.log} of {header.gateway}: {span}, exported {when}"
        _say(console, text)
    if show:
        _show_entries(
            [json.loads(entry.to_bytes()) for entry in verdict.entries],
            console,
        )
    certified = {None: "not checked (--root)", True: "leads to the root", False: "refused"}[verdict.certified]
    table = Table("check", "", show_header=False)
    table.add_row("chain", "holds" if verdict.ok else "see below")
    table.add_row("seals in it that hold", str(verdict.seals))
    unsigned = "none" if verdict.ok else "does not hold or is missing"
    table.add_row("closing signature", "holds" if verdict.signed else unsigned)
    table.add_row("certificate", certified)
    console.print(table)
    for finding in verdict.findings:
        place = "" if finding.entry is None else f"entry {finding.entry}: "
        console.print(f"[red]{finding.kind}[/]  {place}{finding.text}", highlight=False, soft_wrap=True)
    for limit in verdict.limits:
        _say(console, f"cannot show: {limit}")
    console.print("[green]nothing wrong was found[/]" if verdict.ok else "[red]this export is not intact[/]")
