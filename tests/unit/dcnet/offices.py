"""Nets of several administrators on one street: each with its own records, orders and word to the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.orders.nets import WITHDRAW, net_orders
from firmware.profile.model import NetPolicy, ProfileSet
from hsm.api import KeySlot
from tests.support.virtual_time import VirtualClock
from tests.unit.dcnet.roster_street import (
    Asked,
    CheapKeys,
    Net,
    Street,
    believe_names,
    cheap_check,
    told,
)
from tests.unit.dcnet.support import NamedSignatures
from tests.unit.firmware.profile_set import group_total, household, series
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_succession import withdraw_orders
from tools.counterparts.net_swap_judge import SwapJudge, SwapSettings
from tools.counterparts.net_swapping import SwapNet, Swapper
from tools.counterparts.net_withdrawal import WithdrawalTaker, WithdrawalTeller, restate
from tools.counterparts.net_witness import NetWitness
from wan.ports import Order

EMP = b"certificate of emp"
_SLOTS = (KeySlot.DCNET_1, KeySlot.DCNET_2, KeySlot.DCNET_3)


def believe_offices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody believes signatures that are a name in front of the content."""
    believe_names(monkeypatch)
    for module in ("net_withdrawal", "net_swap_evidence"):
        monkeypatch.setattr(f"tools.counterparts.{module}.check_signed", cheap_check)


def in_net(policy: NetPolicy) -> ProfileSet:
    """The profiles of a home in one net, from the grid's begin on."""
    begins = {"registration_period_s": policy.slot_s, "valid_from": policy.t0_utc}
    return household(processing=(series(**begins),), communication=(group_total(net=policy),))


class Office:
    """One administrator; its orders reach its gateways when they are asked to carry them out."""

    def __init__(self, name: str, partners: Iterable[str], swaps: SwapSettings) -> None:
        self.name, self.seen = name, list[Mapping[str, Any]]()
        self.kept: dict[str, bytes] = {}
        self.nets: dict[str, OfficesNet] = {}
        self.profiles: dict[str, ProfileSet] = {}
        self.spool: list[tuple[str, str, dict[str, Any]]] = []
        self.ways: dict[str, Any] = {}
        keys: Any = CheapKeys(name)
        about = (keys.certificate, self.ordered)
        partners, now_utc = frozenset(partners) - {name}, VirtualClock().now_utc
        more = {"kept": self.kept, "now_utc": now_utc}
        self.witness = NetWitness(
            name, *about, keys.trust, keys.sign, self.seen.append, partners=partners, **more
        )
        self.taker = WithdrawalTaker(
            name, self.ordered, keys.trust, self.seen.append, place=self.place, **more
        )
        self.teller = WithdrawalTeller(
            name, keys.certificate, keys.sign, self.seen.append, kept=self.kept, ways=self.ways
        )
        self.judge = SwapJudge(
            name,
            *about,
            self.profiles.__getitem__,
            keys.trust,
            keys.open_attestation,
            keys.sign,
            self.seen.append,
            place=self.place,
            partners=partners,
            settings=swaps,
            **more,
        )

    def place(self, gateway: str, kind: str, body: dict[str, Any]) -> None:
        self.spool.append((gateway, kind, body))
        if kind == "profiles":
            self.profiles[gateway] = msgspec.convert(body, ProfileSet)

    def ordered(self, net: str) -> OrderedNet | None:
        """What its profiles say, as `ordered_net` reads it."""
        if net not in self.nets:
            return None
        own = {
            gateway
            for gateway, profiles in self.profiles.items()
            if any(one.net is not None and one.net.net_id == net for one in profiles.communication)
        }
        return OrderedNet(self.nets[net].policy, EMP, frozenset(own)) if own else None

    async def withdrawn(self, net: str, statement: bytes) -> None:
        """What another administrator tells us."""
        await self.taker.take(net, statement)

    def withdraw(self, net: str, peers: Iterable[str]) -> None:
        """What `smgw profile withdraw-peers` does."""
        ordered = self.ordered(net)
        assert ordered is not None
        orders = withdraw_orders(self.kept, net, sorted(ordered.gateways), list(peers))
        self.spool += [(gateway, kind, body) for gateway, (kind, body) in orders.items()]
        restate(self.kept, net, self.name)

    async def carry(self, street: Street) -> list[str]:
        """Let each gateway carry its orders out; return the codes of the receipts of withdrawals."""
        codes, spool = [], [*self.spool]
        self.spool.clear()
        for number, (gateway, kind, body) in enumerate(spool, 1):
            if kind == WITHDRAW:
                carrier = net_orders(street.homes[gateway].members.get)[kind]
                document = json.dumps(body).encode()
                order = Order(str(number), kind, VirtualClock().now_utc(), number, document)
                codes.append((await carrier(order)).code)
            else:
                await self._follow(street, gateway)
        return codes

    async def _follow(self, street: Street, gateway: str) -> None:
        """What a gateway makes of new profiles: members are made anew, each in a key slot of its own."""
        home, profiles = street.homes[gateway], self.profiles[gateway]
        for net in [*home.tasks]:
            await street.stop(home, self.nets[net])
        for number, one in enumerate(profiles.communication):
            processing = profiles.processing_of(one)
            assert one.net is not None
            assert processing is not None
            net = self.nets[one.net.net_id]
            begins = processing.valid_from if processing.valid_from > net.policy.t0_utc else None
            slot = _SLOTS[number]
            street.join(home, net, slot, begins_utc=begins, ends_utc=processing.valid_until)


class AskedOffice(Asked):
    """An administrator as a supplier asks it about one net; `away` makes it silent."""

    def __init__(self, office: Office, net: str) -> None:
        super().__init__(office.witness, net)
        self.office = office

    async def swap_offer(self, target: str, first_epoch: int) -> bytes:
        return await self._ask(self.office.judge.offer(self.net, target, first_epoch))

    async def swap(self, presentation: bytes) -> bytes:
        return await self._ask(self.office.judge.consent(self.net, presentation))

    async def swap_orders(self, warrant: bytes) -> bytes:
        return await self._ask(self.office.judge.carry(self.net, warrant))


class Offices(dict[str, Office]):
    """All administrators, by name; each knows the way to each."""

    def __init__(self, *names: str, swaps: SwapSettings | None = None) -> None:
        super().__init__({name: Office(name, names, swaps or SwapSettings()) for name in names})
        for office in self.values():
            office.ways |= {name: other for name, other in self.items() if other is not office}

    @property
    def seen(self) -> list[Mapping[str, Any]]:
        return [event for office in self.values() for event in office.seen]

    async def carry(self, street: Street) -> None:
        for office in self.values():
            await office.carry(street)


class OfficesNet(Net):
    """A net whose members belong to several administrators."""

    def __init__(self, number: int, of: Mapping[str, str], offices: Offices, **changes: Any) -> None:
        super().__init__(None, number, of, of, **changes)
        self.of = dict(of)
        for name, office in offices.items():
            office.nets[self.net_id] = self
            office.profiles |= {gateway: in_net(self.policy) for gateway in of if of[gateway] == name}
        self.keys: Any = CheapKeys("emp")
        self.enc = self.keys.public
        self.asked = {name: AskedOffice(offices[name], self.net_id) for name in offices}
        self.patience_s = changes.get("patience_s", 3.0 * self.policy.slot_s)
        self.begin_supplier()

    def begin_supplier(self, journal: Journal | None = None) -> None:
        """Make a supplier; it goes on with what is in the journal."""
        names = sorted(set(self.of.values()))
        self.emp = NetCoordinator(
            self.policy,
            self.of,
            self.keys,
            self.seen.append,
            administrators={name: self.asked[name] for name in [*names, *(set(self.asked) - {*names})]},
            administrator_of=self.of,
            identity=lambda request: request.headers["X-Gateway"],
            now_utc=VirtualClock().now_utc,
            patience_s=self.patience_s,
            journal=journal,
        )

    async def founded(self, street: Street) -> None:
        """Open, let every home join, pinned to its administrator, and wait until all are in."""
        street.open(self)
        for name, office in self.of.items():
            home = await street.build(name)
            home.signatures = NamedSignatures(name, gwa=office)
            street.join(home, self)
        await street.until(lambda: all(told(street.homes[g], NetEventKind.JOINED, self) for g in self.of))

    @property
    def swap_net(self) -> SwapNet:
        """As the swapper of its supplier sees it."""
        return SwapNet(self.rules, self.emp.rosters, self.asked)


def swapper(
    nets: Iterable[OfficesNet],
    kept: dict[str, bytes],
    seen: list[Mapping[str, Any]],
    journal: Journal | None = None,
) -> Swapper:
    """What a supplier runs over all its nets."""
    nets = [*nets]
    keys, now_utc = nets[0].keys, VirtualClock().now_utc
    swap_nets = [net.swap_net for net in nets]
    return Swapper(swap_nets, keys, seen.append, now_utc=now_utc, kept=kept, journal=journal)
