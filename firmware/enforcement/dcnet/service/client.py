"""What a member says to its EMP, resource by resource. Retries within a deadline; judges no content.

A peer that is away, or a refusal of the gate to let something out, is an answer that did not come.
Spec: docs/dcnet.md, resources of appendix "Exact constructions".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

from firmware.enforcement.dcnet.messages.manifest import ManifestReply
from firmware.errors import ReleaseRefused
from hsm.errors import CertificateRefused, TlsRefused
from wan.errors import WanError

OK: Final = frozenset({200, 201})
_TRY_AGAIN: Final = frozenset({404, 425, 429, 500, 502, 503, 504})
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
        net: bytes,
        exchange: Exchange,
        clock: Clock,
        poll_s: float,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        """Talk about `net`; `poll_s` is the pause between two tries, `log` says which net it is."""
        self._base, self._exchange = f"/dcnet/v1/{net.hex()}", exchange
        self._clock, self._poll_s, self._log = clock, poll_s, log

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

    async def deliver(self, what: str, slot: int, index: int, frame: bytes, until: datetime) -> bool:
        """Send a frame, the same bytes again and again until an answer came or the deadline is over.

        Args:
            what: `submit` or `open`.
            slot: the slot it belongs to.
            index: our own.
            frame: with its MAC.
            until: no try begins later.

        Returns:
            Whether the EMP took it (it may have, even if not).
        """
        while self._clock.now_utc() < until:
            status = await self._try("PUT", f"{what}/{slot}/{index}", frame)
            if status is not None and status not in _TRY_AGAIN:
                return status in OK
            await self.pause()
        return False

    async def _try(self, method: str, resource: str, body: bytes) -> int | None:
        answer = await self._ask(method, resource, body)
        return None if answer is None else answer.status

    async def _read(self, resource: str) -> bytes | None:
        answer = await self._ask("GET", resource, b"")
        return answer.body if answer is not None and answer.status in OK else None

    async def _ask(self, method: str, resource: str, body: bytes) -> Answer | None:
        try:
            return await self._exchange(method, f"{self._base}/{resource}", body)
        except _AWAY as error:
            self._log.info("%s %s: %s", method, resource.split("/")[0], error)
        except ReleaseRefused as error:
            self._log.warning("%s %s may not leave: %s", method, resource.split("/")[0], error)
        return None
