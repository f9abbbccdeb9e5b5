"""The policy gate: what may leave, to whom, for whom, when and why. Default deny; nothing else decides this.

`decide` is the pure rule. `Gate` applies it, reports every denial and is the only maker of releases. Where a
communication profile conceals, the gate makes no release of a value at all: `conceal` hands the energy of a
slot to the stage that hides it, and only that stage's opaque frames are released.

Rule: a data set leaves only if processing profile, communication profile, recipient, consumer, time window
    and purpose all match (BSI TR-03109-1; protection profile PP-0073, FDP_IFF.1/MTR).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Protocol

from firmware.enforcement.content import unfit
from firmware.enforcement.pseudonym import Pseudonyms
from firmware.enforcement.release import GateRelease, take_right
from firmware.enforcement.schedule import last_instant, slot_ending_at
from firmware.enforcement.uniform import padded_document
from firmware.errors import ReleaseRefused
from firmware.log.notices import Notice
from firmware.metering.dataset import Dataset, message_id
from firmware.profile.model import CommunicationProfile, NetPolicy, ProcessingProfile, ProfileSet
from wan.ports import Receipt

_make: Final = take_right()
_RESOURCE: Final = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*")
"""Below the net's own path: nothing that a server could read as a way out of it."""
_FOR_ADMINISTRATOR: Final = re.compile(r"complaint|relay/(bundle|roster|reveal|graph|confirm)(/[a-z0-9]+)+")


class Reason(Enum):
    """Why something may not leave; the value goes into logs."""

    PROFILE = "no-profile"
    RECIPIENT = "recipient"
    CONSUMER = "consumer"
    WINDOW = "window"
    PURPOSE = "purpose"
    CONTENT = "content"
    CONCEALED = "concealed"
    NOT_CONCEALED = "not-concealed"
    RESOURCE = "resource"
    PSEUDONYM = "pseudonym"


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to send: under which profile, to whom, about whom, about when, what for."""

    communication: str
    """Id of the communication profile."""
    recipient: str
    consumer: str
    from_utc: datetime
    to_utc: datetime
    purpose: str


@dataclass(frozen=True, slots=True)
class Allow:
    """It may leave under these profiles, through the net that conceals it if there is one."""

    communication: CommunicationProfile
    processing: ProcessingProfile

    @property
    def net(self) -> NetPolicy | None:
        """Return the net that must conceal it."""
        return self.communication.net


@dataclass(frozen=True, slots=True)
class Deny:
    """It may not leave."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Denial:
    """A denied request, for the log; holds no value."""

    request: Request
    reason: Reason
    detail: str


Report = Callable[[Denial], Awaitable[None]]


class NetStage(Protocol):
    """The stage that hides one net's values, `firmware.enforcement.dcnet`."""

    async def contribute(self, slot: int, energy_wh: int | None, export_wh: int = 0) -> None:
        """Take the energy of a slot, None if it is not known; the same slot again changes nothing."""

    async def owe(self, first_slot: int, last_slot: int, energy_wh: int, export_wh: int = 0) -> None:
        """Take energy that spans several slots and belongs to none; the same span again changes nothing."""


def decide(profiles: ProfileSet, request: Request) -> Allow | Deny:
    """Decide one request. Pure: the same profiles and request give the same answer.

    Args:
        profiles: the active set.
        request: aware instants; the period asked for is (from_utc, to_utc].

    Returns:
        Allow only if every one of profile, recipient, consumer, time window and purpose matches.
    """
    communication = next((one for one in profiles.communication if one.id == request.communication), None)
    if communication is None:
        return Deny(Reason.PROFILE, f"no communication profile {request.communication}")
    processing = profiles.processing_of(communication)
    if processing is None:
        return Deny(Reason.PROFILE, f"no processing profile {communication.processing}")
    entitled = communication.recipient in processing.recipients
    if not (request.recipient == communication.recipient == communication.peer.name and entitled):
        return Deny(Reason.RECIPIENT, f"{request.recipient} has no right under {communication.id}")
    owners = {one.meter: one.consumer for one in profiles.meters}
    if request.consumer != processing.consumer or any(
        owners.get(meter) != processing.consumer for meter in processing.meters
    ):
        return Deny(Reason.CONSUMER, f"{request.consumer} is not who {processing.id} is about")
    until = last_instant(processing)
    inside = processing.valid_from <= request.from_utc < request.to_utc
    if not inside or (until is not None and request.to_utc > until):
        return Deny(Reason.WINDOW, f"the period is not covered by {processing.id}")
    if request.purpose != communication.purpose:
        return Deny(Reason.PURPOSE, f"{communication.id} is for {communication.purpose}")
    return Allow(communication, processing)


class Gate:
    """Applies `decide` to everything that wants to leave.

    Args:
        gateway: the gateway's id, lower case; part of documents and message ids.
        administrator: name of the administrator as a peer.
        profiles: gives the active set at the moment of the call.
        nets: gives the concealing stage of a net id, None while there is none.
        report: told of every denial before the caller is.
        pseudonyms: names for what must not say whose it is; None: such a thing does not leave.
    """

    def __init__(
        self,
        gateway: str,
        administrator: str,
        profiles: Callable[[], ProfileSet],
        nets: Callable[[str], NetStage | None],
        report: Report,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._pseudonyms = pseudonyms
        self._gateway, self._administrator = gateway, administrator
        self._profiles, self._nets, self._report = profiles, nets, report

    async def release(
        self, dataset: Dataset, *, communication: str, recipient: str, purpose: str
    ) -> GateRelease:
        """Let a data set out in plain (its sender seals it for the recipient), in its profile's one size.

        Raises:
            ReleaseRefused: the policy says no; it has been reported.
        """
        request = Request(
            communication, recipient, dataset.consumer, dataset.from_utc, dataset.to_utc, purpose
        )
        allowed = await self._allowed(request)
        if allowed.communication.concealment != "none":
            raise await self._denied(request, Reason.CONCEALED, f"{communication} never sends a plain value")
        fault = unfit(allowed.processing, dataset)
        if fault is not None:
            raise await self._denied(request, Reason.CONTENT, fault)
        if allowed.communication.pseudonymised:
            return await self._under_a_pseudonym(request, allowed, dataset)
        identity = message_id(self._gateway, communication, dataset.to_utc, dataset.occasion)
        body = padded_document(
            allowed.processing,
            dataset,
            identity=identity,
            gateway=self._gateway,
            communication=communication,
        )
        return _make(allowed.communication.recipient, identity, body, owner=dataset.consumer)

    async def _under_a_pseudonym(self, request: Request, allowed: Allow, dataset: Dataset) -> GateRelease:
        """Let a data set out that does not say whose it is, by way of the administrator, who cannot read it.

        Neither the document nor the id of the message holds a name, and the recipient sees no connection of
        the gateway's.
        """
        communication = allowed.communication
        if self._pseudonyms is None or not self._administrator:
            raise await self._denied(request, Reason.PSEUDONYM, "there is nobody to forward it")
        if dataset.signatures or communication.purpose == "billing":
            raise await self._denied(
                request, Reason.PSEUDONYM, "what is signed or billed has an owner's name"
            )
        identity = self._pseudonyms.message_id(communication, dataset.to_utc, dataset.occasion)
        pseudonym = self._pseudonyms.of(communication, allowed.processing)
        body = padded_document(
            allowed.processing, dataset, identity=identity, gateway="", communication="", pseudonym=pseudonym
        )
        return _make(
            communication.recipient,
            identity,
            body,
            owner=dataset.consumer,
            sender=pseudonym,
            via=self._administrator,
        )

    async def conceal(
        self,
        communication: str,
        *,
        consumer: str,
        end_utc: datetime,
        energy_wh: int | None,
        export_wh: int = 0,
    ) -> None:
        """Hand the energy of the slot that ends at `end_utc` to a profile's net; nothing comes back.

        Args:
            communication: id of the communication profile.
            consumer: whose energy it is.
            end_utc: end of the slot.
            energy_wh: energy of the slot in Wh, of all meters of the profile; None if it is not known.
            export_wh: what was fed in, likewise.

        Raises:
            ReleaseRefused: the policy says no, or the profile does not conceal; it has been reported.
            ReadingRefused: the stage cannot conceal this value.
        """
        stage, net = await self._stage(communication, consumer, None, end_utc)
        slot = slot_ending_at(net, end_utc)
        if slot is None:
            raise ValueError(f"no slot of {communication} ends there")
        await stage.contribute(slot, energy_wh, export_wh)

    async def owe(
        self,
        communication: str,
        *,
        consumer: str,
        from_utc: datetime,
        to_utc: datetime,
        energy_wh: int,
        export_wh: int = 0,
    ) -> None:
        """Hand the energy of an interruption to a profile's net, which adds it up with others' some day.

        Args:
            communication: id of the communication profile.
            consumer: whose energy it is.
            from_utc: a boundary of slots.
            to_utc: a later one.
            energy_wh: energy between them, at least 0.
            export_wh: what was fed in between them, at least 0.

        Raises:
            ReleaseRefused: as `conceal`.
            ReadingRefused: the stage cannot take it.
        """
        stage, net = await self._stage(communication, consumer, from_utc, to_utc)
        last = slot_ending_at(net, to_utc)
        if last is None:
            raise ValueError(f"no slot of {communication} ends there")
        before = slot_ending_at(net, from_utc)
        await stage.owe(0 if before is None else before + 1, last, energy_wh, export_wh)

    async def _stage(
        self, communication: str, consumer: str, from_utc: datetime | None, to_utc: datetime
    ) -> tuple[NetStage, NetPolicy]:
        """Find the concealing stage that may have a value; the period is the slot that ends if not given."""
        profile = self._profile(communication)
        net = None if profile is None else profile.net
        if from_utc is None:
            from_utc = to_utc if net is None else to_utc - timedelta(seconds=net.slot_s)
        recipient = "" if profile is None else profile.recipient
        request = Request(communication, recipient, consumer, from_utc, to_utc, "group-total")
        if profile is not None and (net is None or profile.concealment != "dc-net"):
            raise await self._denied(request, Reason.NOT_CONCEALED, f"{communication} conceals nothing")
        allowed = await self._allowed(request)
        stage = None if allowed.net is None else self._nets(allowed.net.net_id)
        if stage is None or allowed.net is None:
            raise await self._denied(request, Reason.NOT_CONCEALED, f"no net serves {communication} now")
        return stage, allowed.net

    async def release_frame(self, communication: str, resource: str, body: bytes) -> GateRelease:
        """Let an opaque frame of a concealed profile's net out.

        Args:
            communication: id of a communication profile with concealment "dc-net".
            resource: path at the recipient; must lie under the net's own `/dcnet/v1/<net id>/`.
            body: the frame as the net's stage made it.

        Raises:
            ReleaseRefused: no such profile, no right, or the resource is another net's; it has been reported.
        """
        profile = self._profile(communication)
        processing = None if profile is None else self._profiles().processing_of(profile)
        now = datetime.min.replace(tzinfo=UTC) if processing is None else processing.valid_from
        request = Request(communication, profile.recipient if profile else "", "", now, now, "group-total")
        if profile is None or processing is None:
            raise await self._denied(request, Reason.PROFILE, f"no profile {communication}")
        if profile.net is None or profile.concealment != "dc-net":
            raise await self._denied(request, Reason.NOT_CONCEALED, f"{communication} conceals nothing")
        if profile.recipient not in processing.recipients:
            raise await self._denied(request, Reason.RECIPIENT, f"{profile.recipient} has no right")
        prefix = f"/dcnet/v1/{profile.net.net_id}/"
        if not resource.startswith(prefix) or not _RESOURCE.fullmatch(resource, len(prefix)):
            raise await self._denied(
                request, Reason.RESOURCE, f"{communication} has no business outside its net"
            )
        digest = hashlib.sha256(body).hexdigest()[:16]
        return _make(profile.recipient, f"{self._gateway}{resource}#{digest}", body)

    async def release_to_administrator(self, communication: str, resource: str, body: bytes) -> GateRelease:
        """Let a complaint about a concealed profile's net out, or what only its supplier should have brought.

        Args:
            communication: id of a communication profile with concealment "dc-net".
            resource: `/dcnet/v1/<net id>/complaint`, or below `relay/` what belongs to a roster's founding.
            body: as the net's stage made it; it holds no frame of a slot.

        Raises:
            ReleaseRefused: no such profile, no right, or another resource; it has been reported.
        """
        release = await self.release_frame(communication, resource, body)
        profile = self._profile(communication)
        assert profile is not None, "it was released"
        assert profile.net is not None, "it was released"
        below = resource.removeprefix(f"/dcnet/v1/{profile.net.net_id}/")
        if not _FOR_ADMINISTRATOR.fullmatch(below):
            now = datetime.min.replace(tzinfo=UTC)
            request = Request(communication, self._administrator, "", now, now, "group-total")
            raise await self._denied(request, Reason.RESOURCE, "the administrator relays the founding only")
        return _make(self._administrator, release.message_id, body)

    def release_control(self, receipt: Receipt) -> GateRelease:
        """Let the receipt of an order out to the administrator; it is built here, so nothing else fits in."""
        document = {
            "message_id": receipt.message_id,
            "accepted": receipt.accepted,
            "code": receipt.code,
            "reason": receipt.reason,
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        return _make(self._administrator, f"{self._gateway}-receipt-{receipt.message_id}", body)

    def release_notice(self, notice: Notice) -> GateRelease:
        """Let an alarm out to the administrator; it is built here, from fields that hold no reading."""
        document = {
            "number": notice.number,
            "event": notice.event.value,
            "subject": notice.subject,
            "text": notice.text,
            "at_utc": notice.at_utc.isoformat(),
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        return _make(self._administrator, f"{self._gateway}-notice-{notice.number}", body)

    def _profile(self, communication: str) -> CommunicationProfile | None:
        return next((one for one in self._profiles().communication if one.id == communication), None)

    async def _allowed(self, request: Request) -> Allow:
        answer = decide(self._profiles(), request)
        if isinstance(answer, Deny):
            raise await self._denied(request, answer.reason, answer.detail)
        return answer

    async def _denied(self, request: Request, reason: Reason, detail: str) -> ReleaseRefused:
        await self._report(Denial(request, reason, detail))
        return ReleaseRefused(reason.value, detail)
