"""What a member says to its EMP, resource by resource. Retries within a deadline; judges no content.

A peer that is away, a refusal of the gate to let something out, and an answer that is longer than any true
one are answers that did not come.
Spec: docs/dcnet.md, resources of appendix "Exact constructions".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

from firmware.enforcement.dcnet.messages.manifest import ManifestReply
from firmware.enforcement.dcnet.messages.witnessed import OrderReply
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.sizes import most_bytes
from firmware.errors import ReleaseRefused
from hsm.errors import CertificateRefused, TlsRefused
from wan.errors import WanError

OK: Final = frozenset({200, 201})
TRY_AGAIN: Final = frozenset({404, 425, 429, 500, 502, 503, 504})
RELAY_AFTER: Final = 30
"""So often in a row the EMP may fail to serve a founding before the administrator is asked."""
_RELAYED: Final = frozenset({"bundle", "roster", "reveal", "graph", "confirm"})
_RELAY: Final = "relay/"
_AWAY: Final = (WanError, TlsRefused, CertificateRefused, OSError)


class Answer(Protocol):
    """A peer's answer; `wan.client.Reply` is one."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def body(self) -> bytes:
        """What came with it."""


Exchange = Callable[[str, str, bytes], Awaitable[Answer]]
"""(method, resource, body) -> answer of the net's EMP. What is in `body` is opaque and may leave."""


class Clock(Protocol):
    """The gateway's time; `firmware.clock.clock` has it."""

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC."""

    async def sleep(self, delay_s: float) -> None:
        """Wait."""

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until an instant."""


class NetClient:
    """The resources `/dcnet/v1/{net}/...` of one net at its EMP."""

    def __init__(
        self,
        rules: NetRules,
        exchange: Exchange,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        administrator: Exchange | None = None,
        *,
        below: str = "",
    ) -> None:
        """Talk about the net of `rules`, which say how long to pause and how much to listen to.

        `log` says which net it is. `administrator` is the way to the gateway's own administrator, which
        relays what the EMP does not. With `below` everything lies below that resource of the net: its
        reconcile net does.
        """
        self._administrator, self._failed = administrator, dict[str, int]()
        self._rules = rules
        self._base, self._exchange = f"/dcnet/v1/{rules.net.hex()}{below}", exchange
        self._clock, self._poll_s, self._log = clock, rules.poll_ms / 1000, log

    async def pause(self) -> None:
        """Wait one polling interval."""
        await self._clock.sleep(self._poll_s)

    async def offer_bundle(self, version: int, gateway_id: str, bundle: bytes) -> bool:
        """Publish a signed key bundle; whether the EMP has it now."""
        return await self._try("PUT", f"bundle/{version}/{gateway_id}", bundle) in OK

    async def roster(self, version: int) -> bytes | None:
        """Return the published roster, None while there is none."""
        return await self._read(f"roster/{version}")

    async def reveal(self, version: int, gateway_id: str, nonce: bytes) -> bool:
        """Give away our beacon nonce (`BeaconReveal`); whether the EMP has it now."""
        return await self._try("PUT", f"reveal/{version}/{gateway_id}", nonce) in OK

    async def graph(self, version: int) -> bytes | None:
        """Return what the key graph follows from (`GraphPublication`), None while something is missing."""
        return await self._read(f"graph/{version}")

    async def versions(self) -> bytes | None:
        """Return which roster is in force and which is open (signed `VersionNotice`), None if not told."""
        return await self._read("versions")

    async def confirm(self, version: int, gateway_id: str, signed: bytes) -> bool:
        """Hand in our tags (`EdgeConfirm`, as `Attestation`); whether the EMP has them now."""
        return await self._try("PUT", f"confirm/{version}/{gateway_id}", signed) in OK

    async def confirmations(self, version: int, gateway_id: str) -> bytes | None:
        """Return our neighbours' tags so far (`Confirmations`), None while there is nothing."""
        return await self._read(f"confirm/{version}/{gateway_id}")

    async def dispute(self, version: int, gateway_id: str, signed: bytes) -> bool:
        """Say that a neighbour's tag is wrong (signed `EdgeDispute`); whether the EMP has it now."""
        return await self._try("PUT", f"dispute/{version}/{gateway_id}", signed) in OK

    async def leave(self, gateway_id: str, signed: bytes) -> bool:
        """Say from when on we are no member (signed `Leave`); whether the EMP has it now."""
        return await self._try("PUT", f"leave/{gateway_id}", signed) in OK

    async def epoch(self, epoch: int) -> bytes | None:
        """Return the signed EpochManifest of a UTC day, None while there is none."""
        return await self._read(f"manifest/epoch/{epoch}")

    async def manifest(self, slot: int, index: int) -> ManifestReply | None:
        """Return a slot's manifest with our Merkle path, None while there is none.

        Raises:
            MalformedObject: the answer is no such thing.
        """
        body = await self._read(f"manifest/{slot}/{index}")
        return None if body is None else ManifestReply.from_bytes(body)

    async def result(self, slot: int) -> bytes | None:
        """Return a slot's signed result, None while there is none."""
        return await self._read(f"result/{slot}")

    async def calendar(self) -> bytes | None:
        """Return the EMP's `CalendarPublication`, None while there is none."""
        return await self._read("calendar")

    async def receipt(self, slot: int, index: int) -> bytes | None:
        """Return the receipt for our submission of a slot, None if there is none."""
        return await self._read(f"receipt/{slot}/{index}")

    async def receipts(self, epoch: int, index: int) -> bytes | None:
        """Return the signed list of our receipts of an epoch (`ReceiptDay`), None if there is none."""
        return await self._read(f"receipt/day/{epoch}/{index}")

    async def outage(self, slot: int) -> bytes | None:
        """Return the administrators' `OutagePublication` for a slot, None while there is none."""
        return await self._read(f"outage/{slot}")

    async def tell(self, method: str, resource: str, body: bytes, *, administrator: bool) -> int | None:
        """Send something to the EMP or to our administrator once; the status, None if nobody answered."""
        if not administrator:
            return await self._try(method, resource, body)
        if self._administrator is None:
            return None
        answer = await self._through(self._administrator, method, resource, body)
        return None if answer is None else answer.status

    async def order(self, slot: int, index: int) -> OrderReply | None:
        """Return a slot's co-signed recovery order with the frames we hold shares of, None while none is.

        Raises:
            MalformedObject: the answer is no such thing.
        """
        body = await self._read(f"order/{slot}/{index}")
        return None if body is None else OrderReply.from_bytes(body)

    async def audit(self, slot: int) -> bytes | None:
        """Return a slot's signed audit order, None while there is none."""
        return await self._read(f"audit/{slot}")

    async def commit_order(self, slot: int) -> bytes | None:
        """Return the signed order of commitments (`CommitOrder`) for a slot, empty if there is none.

        None while nobody says which.
        """
        return await self._read(f"orderv/{slot}")

    async def other_ends(self, slot: int, index: int) -> bytes | None:
        """Return what an audit found about our edges (`OtherEnds`), None while there is no finding."""
        return await self._read(f"audit/{slot}/{index}")

    async def deliver(
        self,
        what: str,
        slot: int,
        index: int,
        frame: bytes,
        until: datetime,
        heard: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> bool:
        """Send a frame, the same bytes again and again until an answer came or the deadline is over.

        Args:
            what: `submit` or `open`; in V-mode `commitv` or `openv` before them.
            slot: the slot it belongs to.
            index: our own.
            frame: with its MAC.
            until: no try begins later.
            heard: takes the body of the answer, if it has one.

        Returns:
            Whether the EMP took it (it may have, even if not).
        """
        return await self.deliver_to(f"{what}/{slot}/{index}", frame, until, heard)

    async def deliver_to(
        self,
        resource: str,
        body: bytes,
        until: datetime,
        heard: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> bool:
        """Send something, as `deliver` does; `resource` lies below the net's own."""
        while self._clock.now_utc() < until:
            answer = await self._ask("PUT", resource, body)
            if answer is not None and answer.status not in TRY_AGAIN:
                if heard is not None and answer.body:
                    await heard(answer.body)
                return answer.status in OK
            await self.pause()
        return False

    async def _try(self, method: str, resource: str, body: bytes) -> int | None:
        answer = await self._ask(method, resource, body)
        return None if answer is None else answer.status

    async def _read(self, resource: str) -> bytes | None:
        answer = await self._ask("GET", resource, b"")
        return answer.body if answer is not None and answer.status in OK else None

    async def _ask(self, method: str, resource: str, body: bytes) -> Answer | None:
        answer = await self._through(self._exchange, method, resource, body)
        if self._administrator is None or resource.split("/")[0] not in _RELAYED:
            return answer
        if answer is not None and answer.status in OK:
            self._failed.pop(resource, None)
            return answer
        failed = self._failed[resource] = self._failed.get(resource, 0) + 1
        if failed % RELAY_AFTER:
            return answer
        relayed = await self._through(self._administrator, method, f"{_RELAY}{resource}", body)
        return answer if relayed is None or relayed.status not in OK else relayed

    async def _through(self, way: Exchange, method: str, resource: str, body: bytes) -> Answer | None:
        what = resource.removeprefix(_RELAY)
        name = resource.split("/")[0]
        try:
            answer = await way(method, f"{self._base}/{resource}", body)
        except _AWAY as error:
            self._log.info("%s %s: %s", method, name, error)
        except ReleaseRefused as error:
            self._log.warning("%s %s may not leave: %s", method, name, error)
        else:
            if len(answer.body) <= most_bytes(self._rules, what):
                return answer
            self._log.warning("%s %s: an answer of %d bytes is ignored", method, name, len(answer.body))
        return None
