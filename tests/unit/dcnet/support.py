"""Doubles and builders for the DC-net's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Administrator, Attestation, Roster
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.slot.view import Head, View
from firmware.profile.model import NetPolicy
from firmware.store.operations import Operation, Put
from wan.errors import SignatureRefused

NET = bytes.fromhex("6e65742d30303031")
T0 = datetime(2026, 3, 1, tzinfo=UTC)


def policy(**changes: object) -> NetPolicy:
    """A small insecure net; slots of 2 s, nothing is reconciled."""
    fields: dict[str, object] = {
        "net_id": NET.hex(),
        "slot_s": 2,
        "t0_utc": T0,
        "n_min": 3,
        "d_min": 1,
        "delta": 0.25,
        "insecure_small_nets": True,
        "submit_s": 1.0,
        "manifest_s": 1.7,
        "open_s": 1.9,
        "poll_s": 0.05,
        "max_wh": 20_000,
        "reconcile_slots": 0,
        "recover_s": 1.95,
    }
    return NetPolicy(**(fields | changes))  # type: ignore[arg-type]


def rules(**changes: object) -> NetRules:
    return NetRules.from_profile(policy(**changes))


def edge_key(net: bytes, a: int, b: int) -> bytes:
    return hashlib.sha256(net + bytes([min(a, b), max(a, b)])).digest()[:16]


def view(
    index: int, size: int, edges: Iterable[graph.Edge] | None = None, net_rules: NetRules | None = None
) -> View:
    """What member `index` knows; edge keys follow from the indices."""
    drawn = list(graph.complete_graph(range(1, size + 1)) if edges is None else edges)
    adjacent = graph.neighbours(drawn)
    chosen = net_rules if net_rules is not None else rules()
    own = {peer: Prf(edge_key(chosen.net, index, peer)) for peer in adjacent.get(index, ())}
    return View(chosen, 1, 20_000, size, index, own, adjacent)


def head(size: int, slot: int = 0, fill: int = 7) -> Head:
    """The chain ends before `slot`; everybody is expected."""
    return Head(20_000, slot - 1, bytes([fill]) * 32, frozenset(range(1, size + 1)))


class MemoryStore:
    """A `LedgerStore` that survives its users; `fail_after` puts raise OSError after so many more of them."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, str], bytes] = {}
        self.fail_after: int | None = None
        self.history: list[str] = []
        self.commits: list[Sequence[Operation]] = []

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        self.commits.append(operations)
        for one in operations:
            if isinstance(one, Put):
                await self.put(one.kind, one.key, one.plaintext)
        return [1] * len(operations)

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        if self.fail_after is not None:
            if self.fail_after == 0:
                raise PowerCut
            self.fail_after -= 1
        self.history.append(f"put {kind} {key}")
        self.data[kind, key] = plaintext

    async def get(self, kind: str, key: str) -> bytes | None:
        return self.data.get((kind, key))

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        return sorted((key, data) for (of, key), data in self.data.items() if of == kind)

    async def delete(self, kind: str, key: str) -> None:
        self.data.pop((kind, key), None)


class PowerCut(Exception):
    """The gateway dies here."""


class NamedSignatures:
    """A `Signatures` without cryptography: a signature is the signer's name in front of the content."""

    def __init__(self, name: str, gwa: str = "gwa") -> None:
        self.certificate = f"certificate of {name}".encode()
        self._name, self._gwa = name, gwa

    async def sign(self, content: bytes) -> bytes:
        return signed_by(self._name, content)

    async def by_emp(self, signed: bytes) -> bytes:
        return _content("emp", signed)

    async def by_gwa(self, signed: bytes) -> bytes:
        return _content(self._gwa, signed)

    async def by_administrator(self, signed: bytes, certificate: bytes) -> bytes:
        return _content(certificate.decode().removeprefix("certificate of "), signed)

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        return _content(certificate.decode().removeprefix("certificate of "), signed)

    def sealed(self) -> NamedSignatures:
        return self


def attested_by(name: str, content: bytes) -> Attestation:
    return Attestation(f"certificate of {name}".encode(), signed_by(name, content))


def administrator(name: str, nonce: bytes, version: int = 1) -> Administrator:
    """As a roster lists it."""
    certificate = hashlib.sha256(f"certificate of {name}".encode()).digest()
    return Administrator(name, certificate, BeaconReveal(NET, version, nonce).commitment)


def authorisation(roster: Roster, **changes: Any) -> PeerAuthorisation:
    """Everybody is authorised, for ten days."""
    peers = tuple((entry.index, entry.certificate_hash) for entry in roster.entries)
    until = roster.first_epoch + 10
    made = PeerAuthorisation(roster.net, roster.version, document_hash(roster), until, peers)
    return replace(made, **changes)


def signed_by(name: str, content: bytes) -> bytes:
    return name.encode() + b"|" + content


def _content(name: str, signed: bytes) -> bytes:
    signer, _, content = signed.partition(b"|")
    if signer.partition(b"#")[0] != name.encode():  # behind it: which of its signatures it is
        raise SignatureRefused("the signature does not match")
    return content
