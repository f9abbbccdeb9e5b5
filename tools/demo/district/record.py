"""What left the gateways of a run, in the lines that `smgw dcnet leak` reads. No I/O.

Made from the requests that suppliers noted (`tools.counterparts.flows`) and from the deliveries they opened.
Slots before the nets' first are counted from the first plain one, in a register of their own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from firmware.enforcement.dcnet.founding.authorisation import (
    GraphPublication,
    PeerAuthorisation,
    authorised_edges,
)
from firmware.enforcement.dcnet.founding.beacon import beacon_of, draw
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import ManifestReply, SlotResult
from firmware.enforcement.dcnet.messages.roster import Roster, RosterPublication
from firmware.enforcement.dcnet.messages.witnessed import Witnessed
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives.graph import Edge
from tools.dcnet.record import FRAMES, V_MODE, PublicNet, Seen, plain
from tools.demo.district.plan import DistrictPlan
from tools.homes.parties import Event
from wan.cms import signed

BEFORE: Final = "before"
"""Register of the slots before the nets, in a record."""
OWED: Final = "owed"
"""Register of what reconcile slots carry."""
_BELOW: Final = "reconcile"
"""Where the resources of a reconcile net lie, below those of its net."""
_DER_SEQUENCE: Final = 0x30
_SIGNED: Final = frozenset({"commitv"})
"""What members send signed; a record has the content."""
_NETS: Final = "/dcnet/v1/"
Flow = Mapping[str, Any]


def record(
    plan: DistrictPlan, flows: Iterable[Flow], delivered: Iterable[Event], rules: Mapping[str, NetRules]
) -> list[Seen]:
    """Return every message, in the order of time.

    Args:
        plan: tells the slots.
        flows: what the suppliers noted.
        delivered: their events of deliveries, each with its opened document and with `to`, the supplier.
        rules: of each net, by its id.
    """
    flows = list(flows)
    found = [*_nets(flows, rules), *_documents(flows), *_frames(flows), *_plain(plan, delivered)]
    return sorted(found, key=lambda one: one.t_utc)


def content(der: bytes) -> bytes:
    """Return what somebody signed."""
    return signed.parse(der).content


def _enclosed(envelope: bytes) -> bytes:
    """Return the document of a manifest's envelope, whether administrators have co-signed it or not."""
    document = envelope if envelope[0] == _DER_SEQUENCE else Witnessed.from_bytes(envelope).signed
    return content(document)


def asked(
    flows: Iterable[Flow], what: str, method: str = "GET", *, refused: bool = False
) -> Iterator[tuple[Flow, str, list[str], bool]]:
    """Yield the requests about one resource of nets that were answered well; with `refused` all of them.

    Yields:
        The flow, the net, the rest of the path, and whether it is about the net's reconcile slots.
    """
    for flow in flows:
        path = str(flow["path"])
        if flow["method"] == method and path.startswith(_NETS) and (refused or int(flow["status"]) < 300):
            net, *rest = path.removeprefix(_NETS).split("/")
            below = rest[:1] == [_BELOW]
            resource, *rest = rest[1:] if below else rest
            if resource == what:
                yield flow, net, rest, below


def graphs(
    flows: Iterable[Flow], rules: Mapping[str, NetRules]
) -> dict[tuple[str, int], tuple[Roster, frozenset[Edge], Flow]]:
    """Return each roster version's roster and key graph, by net id and version."""
    flows = list(flows)
    rosters = {
        (net, rest[0]): Roster.from_bytes(
            content(RosterPublication.from_bytes(bytes.fromhex(flow["answer"])).signed)
        )
        for flow, net, rest, _ in asked(flows, "roster")
    }
    found: dict[tuple[str, int], tuple[Roster, frozenset[Edge], Flow]] = {}
    for flow, net, rest, _ in asked(flows, "graph"):
        roster = rosters[net, rest[0]]
        published = GraphPublication.from_bytes(bytes.fromhex(flow["answer"]))
        given = [
            PeerAuthorisation.from_bytes(content(attested.signed)) for attested in published.authorisations
        ]
        authorised = {one.name: peers for one, peers in zip(roster.administrators, given, strict=True)}
        drawn = draw(rules[net], len(roster.entries), beacon_of(document_hash(roster), published.nonces))
        found.setdefault((net, roster.version), (roster, authorised_edges(roster, drawn, authorised), flow))
    return found


def _nets(flows: Iterable[Flow], rules: Mapping[str, NetRules]) -> Iterator[Seen]:
    """Key graphs, those of reconcile nets as well: they are the same."""
    for (net, version), (roster, edges, flow) in graphs(flows, rules).items():
        own = [rules[net], *([rules[net].reconciled()] if rules[net].reconcile_slots else [])]
        for one in own:
            threshold = one.threshold if one.recovery else 0
            public = PublicNet(
                one.net, one.n_min, one.d_min, threshold, len(roster.entries), tuple(sorted(edges)), version
            )
            yield Seen(str(flow["to"]), "members", "net", public.to_bytes(), t_utc=str(flow["t_utc"]))


def _documents(flows: Iterable[Flow]) -> Iterator[Seen]:
    """Epoch manifests, manifests and orders of V-mode, each once for everybody who asked."""
    known: set[bytes] = set()
    for flow, _net, rest, _ in asked(flows, "manifest"):
        answer = bytes.fromhex(flow["answer"])
        kind = "epoch" if rest[0] == "epoch" else "manifest"
        document = _enclosed(answer if kind == "epoch" else ManifestReply.from_bytes(answer).signed)
        if document not in known:
            known.add(document)
            yield Seen(str(flow["to"]), "members", kind, document, t_utc=str(flow["t_utc"]))
    for flow, _net, _rest, _ in asked(flows, "orderv"):
        if answer := bytes.fromhex(flow["answer"]):  # empty: nothing is ordered
            order = content(answer)
            if order not in known:
                known.add(order)
                yield Seen(str(flow["to"]), "members", "orderv", order, t_utc=str(flow["t_utc"]))


def _frames(flows: Iterable[Flow]) -> Iterator[Seen]:
    """What members sent about slots, taken or not: the supplier has seen it."""
    known: set[str] = set()
    for kind in (*FRAMES, *V_MODE):
        for flow, _net, _rest, below in asked(flows, kind, "PUT", refused=True):
            if flow["hex"] not in known:
                known.add(flow["hex"])
                body, register = bytes.fromhex(flow["hex"]), OWED if below else ""
                said = content(body) if kind in _SIGNED else body
                yield Seen(str(flow["from"]), str(flow["to"]), kind, said, register, str(flow["t_utc"]))


def _plain(plan: DistrictPlan, delivered: Iterable[Event]) -> Iterator[Seen]:
    """Two known values of a register give the energy between them."""
    given: dict[tuple[str, str], dict[datetime, str]] = {}
    for event in delivered:
        for entry in event["document"]["entries"]:
            if entry["value"] is not None:
                instants = given.setdefault((event["gateway"], event["to"]), {})
                instants[datetime.fromisoformat(entry["time_utc"])] = entry["time_utc"]
    for (gateway, supplier), instants in given.items():
        for begin, end in pairwise(sorted(instants)):
            first, last = slot_ending(plan, begin) + 1, slot_ending(plan, end)
            if first < 0 <= last:
                raise ValueError(f"{gateway}: a plain value spans the nets' beginning")
            before = first < 0
            shift = plan.plain_slots if before else 0
            yield Seen(
                gateway,
                supplier,
                "plain",
                plain(first + shift, last + shift),
                BEFORE if before else "",
                t_utc=instants[end],
            )


def type_of(message: Seen) -> FrameType:
    """Return the type of a frame in a record."""
    return Frame.from_bytes(message.data[:-MAC_BYTES]).type


def slot_ending(plan: DistrictPlan, instant_utc: datetime) -> int:
    """Return the slot that ends at an instant."""
    return (instant_utc - plan.t0_utc) // timedelta(seconds=plan.slot_s) - 1


def totals_told(flows: Iterable[Flow]) -> set[tuple[str, int]]:
    """Return (net id, slot) of each total that members were told."""
    return {
        (net, result.slot)
        for flow, net, _rest, below in asked(flows, "result")
        if not below
        and (result := SlotResult.from_bytes(content(bytes.fromhex(flow["answer"])))).totals is not None
    }
