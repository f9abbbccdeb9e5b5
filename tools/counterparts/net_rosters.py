"""The supplier's side of a net's rosters: one after another comes into force, by what members and others say.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.succession import (
    Leave,
    PeerWithdrawal,
    VersionNotice,
)
from firmware.enforcement.dcnet.messages.roster import Attestation, SignedBundle
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_drafting import Drafting
from tools.counterparts.net_founding import (
    FoundingRefused,
)
from tools.counterparts.net_probation import Accused
from tools.counterparts.net_versions import Version
from wan.errors import WanError


class Rosters(Drafting):
    """The rosters of one net."""

    # -- the timeline ----------------------------------------------------------------------------------

    async def first(self) -> Version:
        """Wait for the first roster that enough members have confirmed, and let it be in force."""
        while (version := self.ready) is None or not self._complete(version):
            await self._poll()
        return self._begin(version)

    def due(self, epoch: int) -> Version | None:
        """Return the roster that takes over with `epoch`, None if the one in force goes on."""
        version = self.ready
        if version is None or epoch < version.roster.first_epoch or not version.present:
            return None
        if len(version.present) < self._rules.n_min:
            self._tell("unconfirmed", version=version.roster.version, confirmed=len(version.present))
            return None
        return self._begin(version)

    def _complete(self, version: Version) -> bool:
        """Whether everybody has confirmed, or those who have are enough and the others had their time."""
        if len(version.present) == version.terms.size:
            return True
        return version.late and len(version.present) >= max(self._rules.n_start, self._rules.n_min)

    def _begin(self, version: Version) -> Version:
        self._before, self.in_force, self.ready = self.in_force, version, None
        self._leaving = {name: epoch for name, epoch in self._leaving.items() if name in version.members}
        if (swap := self.swap) is not None and version.roster.first_epoch >= swap.first_epoch:
            here = [*sorted(swap.into & set(version.members)), *sorted(swap.out - set(version.members))]
            self._tell("swapped", epoch=swap.first_epoch, gateways=here)
            self.plan(None)
        self._moved.set()
        self._keep()
        return version

    def accuse(self, found: Accused) -> None:
        """Let no later roster hold who lied, or was named too often; edges get new keys by the next one."""
        if self.in_force is not None:
            version = self.in_force.roster.version
            self._excluded |= found.out | self._probation.note(version, found.edges, found.silent)
            self._keep()

    async def tell_disputes(self) -> None:
        """Tell the administrators of a roster in force or on its way which of its edges are disputed."""
        for one in (self.in_force, self.ready):
            if one is not None and (reports := one.founding.confirming.reports):
                names = sorted({entry.administrator for entry in one.roster.entries})
                self._untold.add(names, reports)
                one.founding.confirming.reported()

        def refused(_name: str, reason: str) -> None:
            self._tell("refused", what="dispute", reason=reason)

        await self._untold.tell(self._administrators, refused)

    # -- contracts ---------------------------------------------------------------------------------------

    def knows(self, gateway: str) -> bool:
        """Whether a gateway has a contract, or had one while in the roster in force or the one before."""
        return gateway in self.contracts or any(
            one is not None and gateway in one.members for one in (self.in_force, self._before)
        )

    def follow(self, contracts: Mapping[str, str]) -> None:
        """Take up a changed list of contracts; who came by a swap stays."""
        self._listed = dict(contracts)
        self.contracts = self._listed | self._moved_in
        if not self.open.settled:
            self.open.allow(self.contracts)

    def move_in(self, homes: Mapping[str, str]) -> None:
        """Take in who comes by swaps, whatever the list says; replaces what was said before.

        Args:
            homes: gateway id -> name of its administrator.
        """
        if homes != self._moved_in:
            self._moved_in = dict(homes)
            self.follow(self._listed)

    @property
    def listed(self) -> frozenset[str]:
        """Whom the list of contracts names."""
        return frozenset(self._listed)

    # -- what members and administrators say -----------------------------------------------------------

    async def notice(self) -> bytes:
        """Return the signed `VersionNotice`."""
        in_force = 0 if self.in_force is None else self.in_force.roster.version
        epoch = self.open.first_epoch
        made = VersionNotice(self._rules.net, in_force, self.open.version, epoch, self._wanted)
        if self._noticed[0] != made:
            self._noticed = made, await self._keys.sign(made.to_bytes())
        return self._noticed[1]

    async def leave(self, gateway: str, body: bytes) -> int:
        """Take a member's word that it leaves; HTTP status of the answer. Raises `FoundingRefused`."""
        now = self.in_force
        if now is None or gateway not in now.members:
            raise FoundingRefused("not in the roster in force")
        try:
            certificate = now.founding.certificate_of(gateway)
            signer, content = await self._keys.open_bundle(SignedBundle(certificate, body))
            said = Leave.from_bytes(content)
        except (DcNetError, MessageRefused) as error:
            raise FoundingRefused(str(error)) from error
        own = (self._rules.net, now.roster.version, now.members.index(gateway) + 1)
        if signer != gateway or (said.net, said.version, said.index) != own:
            raise FoundingRefused("another member's, or of another roster")
        if self._leaving.get(gateway) != said.from_epoch:
            self._leaving[gateway] = said.from_epoch
            self._keep()
            self._tell("leaves", gateway=gateway, from_epoch=said.from_epoch)
        return 201

    async def ask_withdrawals(self) -> None:
        """Ask each administrator once whom it has withdrawn since; who is away is asked again later."""
        now = self.in_force
        if now is None:
            return
        for name in sorted({entry.administrator for entry in now.roster.entries}):
            try:
                attestation = Attestation.from_bytes(await self._administrators[name].revoked())
                given = PeerWithdrawal.from_bytes(await self._keys.open_attestation(attestation))
            except (WanError, OSError, ClientError, DcNetError, MessageRefused) as error:
                self._tell("refused", what="revoked", reason=str(error))
                continue
            known = self._withdrawn.get(name)
            if given.net != self._rules.net or (known is not None and given.serial <= known.serial):
                continue
            self._withdrawn[name] = given
            self._kept.put(f"withdrawn/{name}", given.to_bytes())
        gone = {one for given in self._withdrawn.values() for one in given.certificates}
        out = {entry.index for entry in now.roster.entries if entry.certificate_hash in gone}
        if out - now.founding.confirming.withdrawn:
            self._tell("withdrawn", gateways=[now.members[index - 1] for index in sorted(out)])
        now.founding.confirming.withdraw(out)
        for one in self.lingering():
            lost = {entry.index for entry in one.roster.entries if entry.certificate_hash in gone}
            one.founding.confirming.withdraw(one.founding.confirming.withdrawn | lost)
