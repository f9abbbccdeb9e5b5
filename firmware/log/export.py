"""A log in a file, and the check of one: chain, seals, closing signature, the first broken entry.

Text, one JSON object a line: a header, the entries exactly as stored, a trailer. Needs neither the gateway
nor its store. No I/O, no clock. The form is this project's; docs/logs.md describes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from firmware.errors import StoreCorrupt
from firmware.log.entry import Entry
from firmware.log.journal import ChainHead, genesis
from firmware.log.seal import Seal, export_content, first_previous, seal_digest, to_sign
from hsm.api import Curve, PublicKey

_T = TypeVar("_T")
FORMAT: Final = "smgw-log-export-1"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First line."""

    format: str
    gateway: str
    log: str
    reader: str
    exported_utc: datetime
    after: int
    """Number of the entry before the first one here; 0: it begins with the log."""
    start: str
    """SHA-256 of that entry, hexadecimal; what the chain here begins with."""
    count: int
    oldest: int
    """The oldest entry that the gateway still had."""
    newest: int
    """The newest entry that the gateway had."""
    curve: str
    point: str
    """Public key that seals, "" if the gateway has none."""
    certificates: tuple[str, ...]
    """PEM: of that key, then what stands between it and the root."""


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Last line."""

    seals: tuple[str, ...]
    """As stored; the first one may be of an entry before those here."""
    digests: tuple[str, ...] = ()
    """SHA-256 of each entry: names the one that was changed."""
    closing: str
    """The module's signature over header and digests, hexadecimal; "" if the gateway has no key for it."""

    @staticmethod
    def digests_of(entries: Sequence[bytes]) -> list[str]:
        """Return what belongs into `digests`."""
        return [hashlib.sha256(data).hexdigest() for data in entries]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with an export."""

    kind: str
    """"form", "removed", "added", "reordered", "changed", "chain", "seal", "signature", "certificate"."""
    entry: int | None
    """Number of the first entry that is touched, None if none can be named."""
    text: str


@dataclass(slots=True)
class Verdict:
    """What a check found."""

    header: Header | None = None
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    """What this export cannot show, said plainly."""
    seals: int = 0
    """Seals of entries in it that hold."""
    signed: bool = False
    """The closing signature holds: nothing was taken away since the export."""
    certified: bool | None = None
    """The key's certificate leads to the given root and is that gateway's; None: no root was given."""

    @property
    def ok(self) -> bool:
        """Nothing wrong was found."""
        return not self.findings

    @property
    def first_broken(self) -> int | None:
        """Return the number of the first entry that is touched by what was found."""
        return min((one.entry for one in self.findings if one.entry is not None), default=None)


VerifySignature = Callable[[PublicKey, bytes, bytes], bool]
"""key, digest, r | s -> whether it holds."""
CheckCertificate = Callable[[tuple[str, ...], datetime, str], PublicKey]
"""Certificates in PEM, instant, gateway's id -> the key of the first, if it is that gateway's and its path
holds then; else ValueError."""


def write_export(header: bytes, records: Sequence[tuple[int, bytes]], trailer: Trailer) -> bytes:
    """Return the file."""
    return b"\n".join([header, *(data for _, data in records), msgspec.json.encode(trailer)]) + b"\n"


def check_export(
    data: bytes, verify: VerifySignature, certificate: CheckCertificate | None = None
) -> Verdict:
    """Check a file that claims to be an export. Any bytes are fine; what is wrong stands in the verdict."""
    verdict = Verdict()
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    header = _decoded(lines[0] if lines else b"", Header)
    if header is None or header.format != FORMAT:
        verdict.findings.append(Finding("form", None, "the first line is no header of a log export"))
        return verdict
    verdict.header = header
    trailer = _decoded(lines[-1], Trailer) if len(lines) > 1 else None
    body = lines[1:-1] if trailer is not None else lines[1:]
    if trailer is None:
        text = "the last line is no trailer: the end of the file is missing"
        verdict.findings.append(Finding("removed", header.after + len(body) + 1, text))
        trailer = Trailer(seals=(), closing="")
    digests = _check_entries(verdict, header, trailer, body)
    key = _key(verdict, header, certificate)
    _check_closing(verdict, lines[0], header, trailer, key, verify)
    _check_seals(verdict, header, trailer, digests, key, verify)
    _say_limits(verdict, header)
    verdict.findings.sort(key=lambda one: (one.entry is None, one.entry or 0))
    return verdict


def _check_entries(
    verdict: Verdict, header: Header, trailer: Trailer, body: Sequence[bytes]
) -> dict[int, str]:
    """Follow numbers and chain; the digests of the trailer tell a changed entry from a moved one.

    Returns:
        The digest of each entry in its place, and of the one before the first.
    """
    found = {header.after: header.start}
    known = frozenset(trailer.digests)
    head, expected = ChainHead(header.after, header.start), header.after + 1
    if header.after == 0 and header.start != genesis(header.log).digest:
        verdict.findings.append(Finding("chain", 1, "the chain does not begin with the log"))
    for data in body:
        digest = hashlib.sha256(data).hexdigest()
        try:
            entry = Entry.from_bytes(data)
        except StoreCorrupt:
            verdict.findings.append(Finding("changed", expected, f"entry {expected} is no entry any more"))
            head, expected = ChainHead(expected, digest), expected + 1
            continue
        if entry.log != header.log:
            verdict.findings.append(Finding("added", entry.number, f"an entry of log {entry.log}"))
            continue
        if known and digest not in known:
            text = f"entry {expected} is not the one that was exported"
            verdict.findings.append(Finding("changed", expected, text))
            place = expected - header.after - 1
            digest = trailer.digests[place] if place < len(trailer.digests) else digest
        elif entry.number > expected:
            later = _numbers(body)
            for missing in range(expected, min(entry.number, expected + _NAMED)):
                kind = "reordered" if missing in later else "removed"
                verdict.findings.append(Finding(kind, missing, f"entry {missing} is not in its place"))
            head, expected = ChainHead(entry.number - 1, entry.previous), entry.number
        elif entry.number < expected:
            verdict.findings.append(
                Finding("reordered", entry.number, f"entry {entry.number} stands after entry {expected - 1}")
            )
            continue
        elif entry.previous != head.digest:
            text = f"entry {entry.number} does not follow the entry before it"
            verdict.findings.append(Finding("chain", entry.number, text))
        verdict.entries.append(entry)
        found[expected] = digest
        head, expected = ChainHead(expected, digest), expected + 1
    if expected <= header.after + header.count:
        text = f"the last {header.after + header.count - expected + 1} entries are missing"
        verdict.findings.append(Finding("removed", expected, text))
    elif expected > header.after + header.count + 1:
        number = header.after + header.count + 1
        verdict.findings.append(Finding("added", number, "there are more entries than were exported"))
    return found


_NAMED: Final = 20
"""So many missing entries are named one by one."""


def _numbers(body: Sequence[bytes]) -> set[int]:
    found = set()
    for data in body:
        try:
            found.add(Entry.from_bytes(data).number)
        except StoreCorrupt:
            continue
    return found


def _key(verdict: Verdict, header: Header, certificate: CheckCertificate | None) -> PublicKey | None:
    if not header.point:
        if certificate is not None:
            verdict.certified = False
            text = "the export names no key, so nothing leads to the root"
            verdict.findings.append(Finding("certificate", None, text))
        return None
    try:
        key = PublicKey(Curve(header.curve), bytes.fromhex(header.point))
    except ValueError:
        verdict.findings.append(Finding("form", None, "the header names no public key"))
        return None
    if certificate is not None:
        try:
            if not header.certificates:
                raise ValueError("the export holds no certificate: nothing leads to the root")
            certified = certificate(header.certificates, header.exported_utc, header.gateway)
        except ValueError as error:
            verdict.certified = False
            verdict.findings.append(Finding("certificate", None, str(error)))
            return key
        verdict.certified = certified == key
        if not verdict.certified:
            verdict.findings.append(Finding("certificate", None, "the certificate is of another key"))
    return key


def _check_closing(
    verdict: Verdict,
    header_line: bytes,
    header: Header,
    trailer: Trailer,
    key: PublicKey | None,
    verify: VerifySignature,
) -> None:
    if key is None or not trailer.closing:
        if key is not None:
            verdict.findings.append(Finding("signature", None, "the closing signature is missing"))
        return
    content = export_content(header_line, list(trailer.digests))
    verdict.signed = _holds(verify, key, content, trailer.closing)
    if not verdict.signed:
        text = "the closing signature does not hold: header, entries or trailer were changed"
        verdict.findings.append(Finding("signature", None, text))
    elif len(trailer.digests) != header.count:
        verdict.signed = False
        verdict.findings.append(Finding("form", None, "header and trailer count differently"))


def _check_seals(
    verdict: Verdict,
    header: Header,
    trailer: Trailer,
    digests: dict[int, str],
    key: PublicKey | None,
    verify: VerifySignature,
) -> None:
    before: tuple[Seal, bytes] | None = None
    for text in trailer.seals:
        data = text.encode()
        try:
            seal = Seal.from_bytes(data)
        except StoreCorrupt:
            verdict.findings.append(Finding("seal", None, "a seal is none"))
            continue
        fault = _seal_fault(seal, before, header, digests, key, verify)
        before = (seal, data)
        if fault:
            verdict.findings.append(Finding("seal", seal.last, f"seal {seal.number}: {fault}"))
        elif seal.last in digests:
            verdict.seals += 1


def _seal_fault(
    seal: Seal,
    before: tuple[Seal, bytes] | None,
    header: Header,
    digests: dict[int, str],
    key: PublicKey | None,
    verify: VerifySignature,
) -> str | None:
    if (seal.gateway, seal.log) != (header.gateway, header.log):
        return "it is of another log"
    if before is None:
        if seal.number == 1 and seal.previous != first_previous(header.log):
            return "the chain of seals does not begin with the log"
    elif (seal.number, seal.previous) != (before[0].number + 1, seal_digest(before[1])):
        return "the seal before it is missing or changed"
    if key is None or not _holds(verify, key, seal.signed(), seal.signature):
        return "its signature does not hold under the key of the export"
    if seal.last in digests and digests[seal.last] != seal.digest:
        return f"entry {seal.last}, or one before it, is not what was sealed"
    return None


def _holds(verify: VerifySignature, key: PublicKey, content: bytes, signature: str) -> bool:
    try:
        plain = bytes.fromhex(signature)
    except ValueError:
        return False
    return verify(key, to_sign(content, key), plain)


def _say_limits(verdict: Verdict, header: Header) -> None:
    if header.after:
        text = f"entries 1 to {header.after} are not in this export"
        if header.oldest > 1:
            text += f"; the gateway itself had none older than {header.oldest}"
        verdict.limits.append(text)
    if header.after + header.count < header.newest:
        verdict.limits.append(f"entries {header.after + header.count + 1} to {header.newest} are not in it")
    if not verdict.signed:
        verdict.limits.append(
            "without a closing signature that holds, entries and seals cut off at the end, or a file made "
            "anew from the first line on, cannot be noticed"
        )
    elif verdict.certified is None:
        verdict.limits.append("the signing key is the one the export names; a root would show whose it is")
    verdict.limits.append(
        "what was taken from the gateway's own store before the export shows only if a seal or an earlier "
        "export is at hand that names it"
    )


def _decoded(line: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
