"""Nets of several administrators on one street: each with its own records, orders and word to the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from firmware.orders.nets import net_orders
from tests.support.virtual_time import VirtualClock
from tests.unit.dcnet.roster_street import Asked, CheapKeys, Net, Street, believe_names, cheap_check
from tests.unit.dcnet.support import NamedSignatures
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_succession import withdraw_orders
from tools.counterparts.net_withdrawal import WithdrawalTaker, WithdrawalTeller, restate
from tools.counterparts.net_witness import NetWitness
from wan.ports import Order

EMP = b"certificate of emp"


def believe_offices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody believes signatures that are a name in front of the content."""
    believe_names(monkeypatch)
    monkeypatch.setattr("tools.counterparts.net_withdrawal.check_signed", cheap_check)


class Office:
    """One administrator of one net; its orders reach its gateways when they are next asked to be carried."""

    def __init__(self, net: OfficesNet, name: str) -> None:
        self.net, self.name = net, name
        self.kept: dict[str, bytes] = {}
        self.spool: list[tuple[str, str, dict[str, Any]]] = []
        keys: Any = CheapKeys(name)
        clock = VirtualClock()
        self.ways: dict[str, Any] = {}
        self.witness = NetWitness(
            name,
            keys.certificate,
            self.ordered,
            keys.trust,
            keys.sign,
            net.seen.append,
            kept=self.kept,
            partners=frozenset(net.names) - {name},
            now_utc=clock.now_utc,
        )
        self.taker = WithdrawalTaker(
            name,
            self.ordered,
            keys.trust,
            net.seen.append,
            kept=self.kept,
            place=lambda gateway, kind, body: self.spool.append((gateway, kind, body)),
            now_utc=clock.now_utc,
        )
        self.teller = WithdrawalTeller(
            name, keys.certificate, keys.sign, net.seen.append, kept=self.kept, ways=self.ways
        )

    def ordered(self, net: str) -> OrderedNet | None:
        own = frozenset(g for g in self.net.ordered if self.net.of[g] == self.name)
        return OrderedNet(self.net.policy, EMP, own) if net == self.net.net_id else None

    async def withdrawn(self, net: str, statement: bytes) -> None:
        """What another administrator tells us."""
        await self.taker.take(net, statement)

    def withdraw(self, peers: Iterable[str]) -> None:
        """What `smgw profile withdraw-peers` does."""
        own = sorted(g for g in self.net.ordered if self.net.of[g] == self.name)
        orders = withdraw_orders(self.kept, self.net.net_id, own, list(peers))
        self.spool += [(gateway, kind, body) for gateway, (kind, body) in orders.items()]
        restate(self.kept, self.net.net_id, self.name)

    async def carry(self, street: Street) -> list[str]:
        """Let each gateway carry its orders out; return the codes of the receipts."""
        codes = []
        for number, (gateway, kind, body) in enumerate(self.spool, 1):
            carrier = net_orders(street.homes[gateway].members.get)[kind]
            order = Order(str(number), kind, VirtualClock().now_utc(), number, json.dumps(body).encode())
            codes.append((await carrier(order)).code)
        self.spool.clear()
        return codes


class OfficesNet(Net):
    """A net whose members belong to several administrators."""

    def __init__(self, number: int, of: Mapping[str, str], **changes: Any) -> None:
        super().__init__(None, number, of, of, **changes)
        self.of, self.names = dict(of), sorted(set(of.values()))
        self.offices = {name: Office(self, name) for name in self.names}
        for office in self.offices.values():
            office.ways |= {name: other for name, other in self.offices.items() if other is not office}
        keys = CheapKeys("emp")
        self.enc = keys.public
        self.emp = NetCoordinator(
            self.policy,
            of,
            keys,
            self.seen.append,
            administrators={name: Asked(one.witness, self.net_id) for name, one in self.offices.items()},
            administrator_of=of,
            identity=lambda request: request.headers["X-Gateway"],
            now_utc=VirtualClock().now_utc,
            patience_s=changes.get("patience_s", 3.0 * self.policy.slot_s),
        )

    async def move_in(self, street: Street) -> None:
        """Build every home, pinned to its administrator, and let it join."""
        for name in self.of:
            home = await street.build(name)
            home.signatures = NamedSignatures(name, gwa=self.of[name])
            street.join(home, self)
