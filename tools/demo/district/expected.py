"""What a cast's happenings excuse: who may be missing where, and which slots may have no sum. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tools.demo.district.plan import Cast, DistrictPlan, Net
from tools.homes.household import Household

_AUDIT_SLOTS = 3
"""A liar's first slot, that of the audit, and one more until it is left out."""
_ORDER_SLOTS = 2
"""Until every gateway of an administrator and the supplier know of a revocation."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The plan, and who was hit by what hits the first to come."""

    plan: DistrictPlan
    lost: Mapping[tuple[str, int], str]

    @property
    def cast(self) -> Cast:
        """Everybody."""
        return self.plan.cast

    def members(self, net: Net, slot: int) -> frozenset[str]:
        """Who has a contract for this net in this slot."""
        return frozenset(Household(home).name for home in self.cast.members(net, slot))

    def net_of(self, name: str, slot: int) -> Net:
        """The net in which a gateway is in a slot."""
        return next(net for net in self.cast.nets if name in self.members(net, slot))

    def must_miss(self, name: str, slot: int) -> bool:
        """Whether a gateway cannot be in the sum of a slot."""
        dropped = any((Household(one.home).name, one.slot) == (name, slot) for one in self.cast.drop_outs)
        revoked = any(
            Household(one.home).name == name and slot >= one.slot + _ORDER_SLOTS
            for one in self.cast.revocations
        )
        return dropped or revoked or self.nobodys(name, slot)

    def may_miss(self, name: str, slot: int) -> bool:
        """Whether a gateway has a reason not to be in the sum of a slot."""
        cast = self.cast
        back = {(Household(one.home).name, one.slot + 1) for one in cast.drop_outs}
        back |= {(gateway, at + 1) for (_, at), gateway in self.lost.items()}
        back |= {(Household(one.home).name, one.slot) for one in cast.tenants}
        liars = {(Household(one.home).name, one.slot) for one in cast.liars}
        return (
            self.must_miss(name, slot)
            or (name, slot) in back
            or any(liar == name and begin < slot for liar, begin in liars)
            or any(Household(one.home).name == name and slot >= one.slot - 1 for one in cast.revocations)
        )

    def nobodys(self, name: str, slot: int) -> bool:
        """Whether a slot lies between two tenants."""
        return any((Household(one.home).name, one.slot - 1) == (name, slot) for one in self.cast.tenants)

    def may_abort(self, net: Net, slot: int) -> bool:
        """Whether something happens that may leave a slot without a sum: it is owed then."""
        lying = any(
            one.slot <= slot < one.slot + _AUDIT_SLOTS and one.home in net.homes for one in self.cast.liars
        )
        revoking = any(
            one.slot - 1 <= slot < one.slot + _ORDER_SLOTS and one.home in net.homes
            for one in self.cast.revocations
        )
        return lying or revoking
