"""What an administrator remembers of a net's rosters, and which it lets follow. No I/O besides its records.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, MutableMapping
from datetime import datetime
from typing import Final

from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.succession import PeerWithdrawal
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import NetRules
from wan.errors import OrderRefused

_COMPARED: Final = 2
"""A roster is held against so many before it: the last one may never have been in force, only authorised."""
WITHDRAW: Final = "dcnet-withdraw"
"""Kind of order."""


def newest_of(kept: Mapping[str, bytes], net: str, what: str) -> int:
    """Return the newest version of which there is a record, 0 if there is none.

    Args:
        kept: the records.
        net: net id, hex.
        what: `roster` (countersigned) or `given` (peers authorised).
    """
    return max(versions_of(kept, net, what), default=0)


def versions_of(kept: Mapping[str, bytes], net: str, what: str) -> set[int]:
    """Return all versions of which there is a record; see `newest_of`."""
    prefix = f"{what}-{net}-"
    return {int(name.removeprefix(prefix)) for name in kept if name.startswith(prefix)}


def check_next(
    kept: Mapping[str, bytes], net: str, rules: NetRules, roster: Roster, now_utc: datetime
) -> None:
    """Let a new roster follow the one whose peers were authorised last, and nothing else.

    A version whose members did not all reveal was never in force: its successor follows the one before it.

    Raises:
        OrderRefused: `version`, `previous`, `pause`, `epoch`, `churn` or `start`.
    """
    newest, current = newest_of(kept, net, "roster"), newest_of(kept, net, "given")
    if roster.version <= newest:
        raise OrderRefused("version", f"version {newest} was countersigned before")
    if newest:
        taken = json.loads(kept[f"names-{net}-{newest}"])["at"]
        if now_utc.timestamp() - taken < rules.roster_pause_s:
            raise OrderRefused("pause", f"the last roster is younger than {rules.roster_pause_s} s")
    if not current:
        if roster.previous != bytes(32):
            raise OrderRefused("previous", "it follows a roster that we do not know")
        if len(roster.entries) < (enough := rules.starts_with()):
            raise OrderRefused(
                "start", f"{len(roster.entries)} members are too few to begin, {enough} are not"
            )
        return
    content = kept[f"roster-{net}-{current}"]
    before = Roster.from_bytes(content)
    if roster.previous != hashlib.sha256(content).digest():
        raise OrderRefused("previous", f"it does not follow version {current}")
    if roster.first_epoch <= max(before.first_epoch, rules.epoch_of(rules.slot_at(now_utc))):
        raise OrderRefused("epoch", f"epoch {roster.first_epoch} has begun")
    for version in sorted(versions_of(kept, net, "given"))[-_COMPARED:]:
        compared = Roster.from_bytes(kept[f"roster-{net}-{version}"])
        old, new = ({entry.certificate_hash for entry in one.entries} for one in (compared, roster))
        if 0 < len(old ^ new) < rules.churn_min:
            raise OrderRefused("churn", f"{len(old ^ new)} change, {rules.churn_min} or none may")


def keep_names(
    kept: MutableMapping[str, bytes], net: str, roster: Roster, gateways: Collection[str], now_utc: datetime
) -> None:
    """Keep whose entries a roster holds, and when it was countersigned.

    Args:
        kept: the records.
        net: net id, hex.
        roster: as countersigned.
        gateways: ids in the order of the indices.
        now_utc: the administrator's clock.
    """
    found = {"at": now_utc.timestamp(), "gateways": list(gateways)}
    kept.setdefault(f"names-{net}-{roster.version}", json.dumps(found).encode())


def members_of(kept: Mapping[str, bytes], net: str) -> dict[str, bytes]:
    """Return gateway id -> certificate hash in the newest roster that was countersigned."""
    newest = newest_of(kept, net, "roster")
    if not newest:
        return {}
    roster = Roster.from_bytes(kept[f"roster-{net}-{newest}"])
    names = json.loads(kept[f"names-{net}-{newest}"])["gateways"]
    return {name: entry.certificate_hash for name, entry in zip(names, roster.entries, strict=True)}


def withdrawal(
    kept: MutableMapping[str, bytes],
    net: str,
    name: str,
    ordered: Collection[str],
    refused: Collection[str],
) -> PeerWithdrawal:
    """Return who of the newest roster is authorised no more: own gateways not ordered, refused peers.

    Args:
        kept: the records; the list and its serial number stay.
        net: net id, hex.
        name: of the administrator in rosters.
        ordered: ids of its gateways that shall be in the net.
        refused: ids of gateways that no gateway of it shares a key with.
    """
    newest = newest_of(kept, net, "roster")
    gone: set[bytes] = set()
    if newest:
        roster = Roster.from_bytes(kept[f"roster-{net}-{newest}"])
        allowed = PeerAuthorisation.from_bytes(kept[f"peers-{net}-{newest}"]).peers
        authorised = {certificate for _, certificate in allowed}
        of = {entry.certificate_hash: entry.administrator for entry in roster.entries}
        for gateway, certificate in members_of(kept, net).items():
            left = of[certificate] == name and gateway not in ordered
            if left or (gateway in refused and certificate in authorised):
                gone.add(certificate)
    record = f"withdrawn-{net}"
    if record in kept:
        before = PeerWithdrawal.from_bytes(kept[record])
        if set(before.certificates) == gone:
            return before
        serial = before.serial + 1
    else:
        serial = 1
    given = PeerWithdrawal(bytes.fromhex(net), serial, tuple(sorted(gone)))
    kept[record] = given.to_bytes()
    return given


def withdraw_orders(
    kept: MutableMapping[str, bytes],
    net: str,
    own: Collection[str],
    peers: Collection[str] | None = None,
    partners: Mapping[str, Mapping[str, bytes]] | None = None,
) -> dict[str, tuple[str, dict[str, object]]]:
    """Return the orders by which an administrator withdraws peers from its gateways, the supplier or no.

    Args:
        kept: the records; the number of the list stays, and so do `peers`.
        net: net id, hex.
        own: ids of its gateways in the net.
        peers: ids of all that the administrator withdraws now; replaces what it withdrew before. None: those.
        partners: administrator -> what it has withdrawn of its own; None: as it is kept.

    Returns:
        Gateway id -> (kind of order, body).

    Raises:
        OrderRefused: `unknown`; a peer is not in the newest roster.
    """
    known, before = members_of(kept, net), own_revoked(kept, net)
    wanted = before if peers is None else {peer: known.get(peer) or before.get(peer, b"") for peer in peers}
    if unknown := sorted(peer for peer, certificate in wanted.items() if not certificate):
        raise OrderRefused("unknown", f"not in net {net}: {', '.join(unknown)}")
    lists = partners_revoked(kept, net) if partners is None else partners
    gone = {*wanted.values(), *(one for listed in lists.values() for one in listed.values())}
    record = f"ordered-{net}"
    serial = 1 + int(kept.get(record, b"0"))
    kept[record] = str(serial).encode()
    kept[f"revoked-{net}"] = json.dumps({peer: wanted[peer].hex() for peer in sorted(wanted)}).encode()
    body: dict[str, object] = {
        "net": net,
        "serial": serial,
        "certificates": sorted(one.hex() for one in gone),
    }
    return {gateway: (WITHDRAW, body) for gateway in own if gateway in known}


def own_revoked(kept: Mapping[str, bytes], net: str) -> dict[str, bytes]:
    """Return whom an administrator withdrew by its own last list: gateway id -> certificate hash."""
    found = json.loads(kept.get(f"revoked-{net}", b"{}"))
    if isinstance(found, list):  # as it was written before the list held certificates
        known = members_of(kept, net)
        return {peer: known[peer] for peer in found if peer in known}
    return {peer: bytes.fromhex(certificate) for peer, certificate in found.items()}


def partners_revoked(kept: Mapping[str, bytes], net: str) -> dict[str, dict[str, bytes]]:
    """Return whom other administrators withdrew of their own: their names -> gateway id -> certificate hash.

    A gateway that a newer roster has under another administrator is not theirs any more.
    """
    found: dict[str, dict[str, bytes]] = {}
    if not (records := [record for record in kept if record.startswith(f"stated-by-{net}-")]):
        return found
    owners = owners_of(kept, net)
    for record in records:
        said = json.loads(kept[record])
        listed = {gateway: bytes.fromhex(one) for gateway, one in said["gateways"].items()}
        name = said["administrator"]
        found[name] = {g: one for g, one in listed.items() if owners.get(one, (name, g))[0] == name}
    return found


def owners_of(kept: Mapping[str, bytes], net: str) -> dict[bytes, tuple[str, str]]:
    """Return certificate hash -> (administrator, gateway id) of all members of the rosters that count.

    These are the last ones whose peers were authorised, and the newest; a newer one has the last word.
    """
    found: dict[bytes, tuple[str, str]] = {}
    for version in current_versions(kept, net):
        roster = Roster.from_bytes(kept[f"roster-{net}-{version}"])
        names = json.loads(kept[f"names-{net}-{version}"])["gateways"]
        for entry, gateway in zip(roster.entries, names, strict=True):
            found[entry.certificate_hash] = entry.administrator, gateway
    return found


def current_versions(kept: Mapping[str, bytes], net: str) -> list[int]:
    """Return the rosters that may be in force or come to be, rising."""
    given = sorted(versions_of(kept, net, "given"))[-_COMPARED:]
    return sorted({*given, *sorted(versions_of(kept, net, "roster"))[-1:]})


def revoked_peers(kept: Mapping[str, bytes], net: str) -> frozenset[str]:
    """Return whom an administrator withdrew by its last orders, on its own word or a partner's."""
    partners = partners_revoked(kept, net).values()
    return frozenset(own_revoked(kept, net)) | {one for listed in partners for one in listed}
