"""The gateway's side of the administrator's channel: fetch orders, check them, carry them out, answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from hsm.errors import CertificateRefused
from hsm.x509 import Certificate
from wan.client import Reply
from wan.errors import MalformedMessage, OrderRefused, SignatureRefused, UnexpectedReply, WanError
from wan.ports import Clock, ProfileSink, Receipt, Release

MAX_ORDERS: Final = 256
_TAKEN: Final = {200, 201, 204}
CLOCK_SKEW: Final = timedelta(minutes=5)
Report = Callable[[str, BaseException], None]
"""Told of each fault: name of the service, what happened. Must not raise."""
SignerCheck = Callable[[Certificate], None]
"""Checks path, validity and revocation of the administrator's certificate now; raises CertificateRefused."""


class Channel(Protocol):
    """The part of `wan.client.HttpChannel` that clients use."""

    async def exchange(
        self, method: str, resource: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        """Send a request and return the reply."""


class Notices(Protocol):
    """Alarms that the administrator must be told, oldest first."""

    async def waiting(self) -> list[tuple[int, Release]]:
        """Return (number, message) of what waits."""

    async def taken(self, number: int) -> None:
        """Forget everything up to `number`; durable on return."""


class _Orders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    orders: list[str]


_orders_decoder = msgspec.json.Decoder(_Orders)


def decode_list(body: bytes) -> list[bytes]:
    """Read {"orders": [base64, ...]}.

    Raises:
        MalformedMessage: another form, bad base64, or more than MAX_ORDERS.
    """
    try:
        texts = _orders_decoder.decode(body).orders
        if len(texts) > MAX_ORDERS:
            raise MalformedMessage("list of orders is too long")
        orders = [base64.b64decode(text, validate=True) for text in texts]
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"list of orders: {type(error).__name__}") from error
    return orders


class AdministratorLink:
    """Calls the administrator at start and every `poll_s` seconds. A service."""

    name = "wan.gwa"

    def __init__(
        self,
        channel: Channel,
        sink: ProfileSink,
        *,
        sig_certificate: Callable[[], Certificate],
        gateway: str,
        poll_s: float,
        clock: Clock,
        report: Report,
        check_signer: SignerCheck,
        release: Callable[[Receipt], Release],
        notices: Notices | None = None,
    ) -> None:
        """Take the pinned certificate as a callable: an order may replace it; `gateway` is in lower case.

        `release` is the policy gate's: even a receipt leaves only as what the gate has made.
        """
        self._channel, self._sink, self._sig_certificate = channel, sink, sig_certificate
        self._gateway, self._poll_s, self._clock = gateway, poll_s, clock
        self._report, self._check_signer, self._release = report, check_signer, release
        self._notices = notices
        self._called = asyncio.Event()

    def call_now(self) -> None:
        """Call in before the next poll is due (wake-up)."""
        self._called.set()

    async def run(self) -> None:
        """Poll until cancelled; a fault of the administrator's ends the poll, not the service.

        Raises:
            HsmError, OSError: of our own parts.
        """
        while True:
            self._called.clear()
            try:
                await self.poll()
            except WanError as fault:
                self._report(self.name, fault)
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def poll(self) -> list[Receipt]:
        """Call in once; returns the receipts that the administrator has taken.

        A receipt that does not arrive is sent again at the next poll, because the order is offered again.

        Raises:
            PeerUnavailable, DestinationRefused, MalformedMessage, UnexpectedReply: as the channel says.
        """
        base = f"/gwa/v1/{quote(self._gateway, safe='')}"
        reply = await self._channel.exchange("GET", f"{base}/orders")
        if reply.status != 200:
            raise UnexpectedReply(f"administrator answered {reply.status} when asked for orders")
        receipts = []
        for der in decode_list(reply.body):
            receipt = await self._carry_out(der)
            answer = await self._channel.exchange(
                "PUT",
                f"{base}/receipts/{quote(receipt.message_id, safe='')}",
                self._release(receipt).body,
                (("Content-Type", "application/json"),),
            )
            if answer.status in _TAKEN:
                receipts.append(receipt)
            else:  # it must not hold up the orders behind it
                refusal = UnexpectedReply(f"administrator answered {answer.status} to a receipt")
                self._report(self.name, refusal)
        await self._tell(base)
        return receipts

    async def _tell(self, base: str) -> None:
        """Hand over the alarms in their order; one that is not taken waits for the next poll."""
        for number, release in [] if self._notices is None else await self._notices.waiting():
            answer = await self._channel.exchange(
                "PUT", f"{base}/notices/{number}", release.body, (("Content-Type", "application/json"),)
            )
            if answer.status not in _TAKEN:
                self._report(
                    self.name, UnexpectedReply(f"administrator answered {answer.status} to an alarm")
                )
                return
            assert self._notices is not None
            await self._notices.taken(number)

    async def _carry_out(self, der: bytes) -> Receipt:
        # Not at module level: most polls bring no order, and CMS costs start-up time.
        from wan.gwa import orders

        claimed = orders.unverified_id(der)
        signer = self._sig_certificate()
        try:
            self._check_signer(signer)
            order = orders.open_order(der, gateway=self._gateway, signer=signer)
        except SignatureRefused as error:
            return await self._refuse(claimed, "signature", error)
        except CertificateRefused as error:
            return await self._refuse(claimed, "certificate", error)
        except MalformedMessage as error:
            return await self._refuse(claimed, "malformed", error)
        except OrderRefused as error:
            return await self._refuse(claimed, error.code, error)
        if order.issued_utc > self._clock.now_utc() + CLOCK_SKEW:
            return await self._refuse(order.message_id, "time", OrderRefused("time", "issued in the future"))
        try:
            return await self._sink.apply(order)
        except OrderRefused as error:
            return await self._refuse(order.message_id, error.code, error)

    async def _refuse(self, message_id: str, code: str, error: Exception) -> Receipt:
        self._report(self.name, error)
        reason = error.reason if isinstance(error, OrderRefused) else str(error)
        return await self._sink.refuse(message_id, code, reason)
