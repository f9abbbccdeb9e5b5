"""The stage of a district: one root with a branch for each administrator, the parties, the homes. I/O."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from firmware.profile.model import NetPolicy
from tools.counterparts.gwa import place_order
from tools.counterparts.net_mount import AdministratorSettings, NetSettings, to_toml
from tools.counterparts.pki import make_participant, make_pki
from tools.counterparts.pki_branches import introduce, make_branch
from tools.counterparts.server import replacing
from tools.demo.district.plan import (
    EPOCH_SLOTS,
    GROUP_TOTAL,
    MOVED,
    NEW_TENANT,
    READINGS,
    DistrictPlan,
    Net,
    Supplier,
)
from tools.homes.home import Home
from tools.homes.household import Household
from tools.homes.parties import Party
from tools.homes.peers import peer_entry
from wan.pki.profile import Role

FLOWS = "flows.jsonl"


def branch_folder(plan: DistrictPlan, administrator: str) -> Path:
    """Return where an administrator's branch of the PKI is."""
    return plan.folder / "pki" / administrator


def supplier_folder(plan: DistrictPlan, supplier: str) -> Path:
    """Return where a supplier keeps its files."""
    return branch_folder(plan, plan.cast.supplier(supplier).branch) / supplier


class Stage:
    """Everybody of a plan, in `plan.folder`, which is new."""

    def __init__(self, plan: DistrictPlan) -> None:
        self.plan = plan
        self.pki = plan.folder / "pki"
        self.homes = tuple(
            Home(one, plan.folder / one.name, READINGS, more_profiles=(GROUP_TOTAL, MOVED, NEW_TENANT))
            for one in plan.households
        )
        self.gwas: dict[str, Party] = {}
        self.emps: dict[str, Party] = {}
        self._ports: dict[str, int] = {}
        self._heads: dict[str, str] = {}

    def branch(self, administrator: str) -> Path:
        """Folder of an administrator's branch of the PKI."""
        return branch_folder(self.plan, administrator)

    def supplier_folder(self, supplier: str) -> Path:
        """Folder of a supplier."""
        return supplier_folder(self.plan, supplier)

    def branch_of(self, home: Household) -> Path:
        """Folder of the branch that a home's gateway belongs to."""
        return self.branch(self.plan.cast.administrator_of(home.number).name)

    # -- before anybody runs -----------------------------------------------------------------------------

    def make_certificates(self) -> None:
        """Make root, branches, administrators and suppliers."""
        make_pki(self.pki / "root")
        cast = self.plan.cast
        for one in cast.administrators:
            make_branch(
                self.pki / "root",
                self.branch(one.name),
                name=f"SM-Test-{one.name.capitalize()}.CA",
                gwa=f"gwa-{one.name}",
                gwa_server_name=one.server_name,
            )
            partners = [other.name for other in cast.administrators if other is not one]
            refused = [Household(number).name for number in sorted(one.refuses)]
            _append(
                self.branch(one.name) / "gwa" / "gwa.toml",
                roster_name=one.name,
                partners=partners,
                refused_peers=refused,
                record=FLOWS,
            )
        for supplier in cast.suppliers:
            folder = self.supplier_folder(supplier.name)
            make_participant(
                self.branch(supplier.branch),
                folder,
                Role.EMP,
                supplier.name,
                server_name=supplier.server_name,
            )
            settings = folder / "emp.toml"
            if not settings.exists():
                (folder / f"{Role.EMP.name.lower()}.toml").rename(settings)
            _append(settings, record=FLOWS)
        introduce(self.pki / "root", [self.branch(one.name) for one in cast.administrators])

    # -- parties -----------------------------------------------------------------------------------------

    async def start_administrators(self, stack: AsyncExitStack) -> None:
        """Start each administrator as a process of its own."""
        for one in self.plan.cast.administrators:
            party = Party("gwa", self.branch(one.name) / "gwa")
            self.gwas[one.name] = await stack.enter_async_context(party)
        for name, party in self.gwas.items():
            self._ports[name] = await party.port()

    def gwa_of(self, home: Household) -> Party:
        """A home's administrator."""
        return self.gwas[self.plan.cast.administrator_of(home.number).name]

    def gwa_port(self, home: Household) -> int:
        """Where a home's administrator listens."""
        return self._ports[self.plan.cast.administrator_of(home.number).name]

    async def start_suppliers(self, stack: AsyncExitStack) -> None:
        """Start each supplier as a process of its own, with its nets, which wait for their members."""
        for one in self.plan.cast.suppliers:
            folder = self.supplier_folder(one.name)
            self._heads[one.name] = (folder / "emp.toml").read_text(encoding="utf-8")
            self.write_contracts(one.name, 0)
            self.emps[one.name] = await stack.enter_async_context(Party("emp", folder))
        for name, party in self.emps.items():
            self._ports[name] = await party.port()

    def write_contracts(self, supplier: str, slot: int) -> None:
        """Write a supplier's settings with the members that its nets have from a slot on."""
        text = self._heads[supplier] + "".join(
            to_toml(self._settings(net, self.plan.cast.members(net, slot)))
            for net in self.plan.cast.nets
            if net.supplier == supplier
        )
        with replacing(self.supplier_folder(supplier) / "emp.toml") as path:
            path.write_text(text, encoding="utf-8")

    def _settings(self, net: Net, homes: tuple[int, ...]) -> NetSettings:
        first, *others = self.plan.cast.administrators
        return NetSettings(
            policy=msgspec.convert(self.plan.net_policy(net), NetPolicy),
            members=[Household(number).name for number in homes],
            gwa=f"127.0.0.1:{self._ports[first.name]}",
            gwa_server_name=first.server_name,
            administrator=first.name,
            patience_s=EPOCH_SLOTS * self.plan.slot_s / 3,
            others=[
                AdministratorSettings(
                    name=one.name,
                    gwa=f"127.0.0.1:{self._ports[one.name]}",
                    gwa_server_name=one.server_name,
                    members=[Household(number).name for number in homes if number in one.homes],
                )
                for one in others
            ],
        )

    # -- orders ------------------------------------------------------------------------------------------

    def peer(self, supplier: Supplier) -> dict[str, Any]:
        """A supplier as profiles name it."""
        return peer_entry(
            supplier.name,
            self.supplier_folder(supplier.name),
            self._ports[supplier.name],
            supplier.server_name,
        )

    async def order(self, home: Household, body: dict[str, Any]) -> str:
        """Let a home's administrator order profiles, beside what the gateways do; the order's message id."""
        folder = self.branch_of(home) / "gwa"
        return await asyncio.to_thread(place_order, folder, home.gateway_id, "profiles", body)


def _append(path: Path, **settings: Any) -> None:
    with path.open("a", encoding="utf-8") as file:
        for name, value in settings.items():
            file.write(f"{name} = {msgspec.json.encode(value).decode()}\n")
