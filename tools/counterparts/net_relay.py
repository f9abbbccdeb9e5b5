"""The administrator as the way around a supplier that does not serve one of its gateways.

What is relayed is signed by its maker or bound by its commitment, so nothing has to be believed of the way.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final

from aiohttp import ClientError

from tools.counterparts.server import Emit
from wan.errors import OrderRefused, WanError

MAX_RELAYED_BYTES: Final = 1 << 16
MAX_WAITING: Final = 8
"""So much of one gateway waits for a supplier at most."""
_PUT: Final = re.compile(r"(bundle|reveal|confirm)/([1-9][0-9]{0,8})/([a-z0-9]{14})")
_GET: Final = re.compile(r"(roster|graph)/([1-9][0-9]{0,8})|(confirm)/([1-9][0-9]{0,8})/([a-z0-9]{14})")
_OK: Final = frozenset({200, 201})
Forward = Callable[[str, str, str, str, bytes], Awaitable[tuple[int, bytes]]]
"""(net, gateway, method, resource, body) -> the supplier's status and answer; raises `WanError`, `OSError` or
`ClientError`."""


class NetRelay:
    """Asks suppliers for the founding resources of our gateways, and keeps what they gave.

    Args:
        member: whether a gateway was ordered into a net.
        forward: the way to the supplier of a net.
        emit: takes events.
        kept: outlives this process.
    """

    def __init__(
        self,
        member: Callable[[str, str], bool],
        forward: Forward,
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
    ) -> None:
        self._member, self._forward, self._emit, self._kept = member, forward, emit, kept

    async def relay(
        self, net: str, gateway: str, method: str, resource: str, body: bytes
    ) -> tuple[int, bytes]:
        """Answer a gateway's request below `/dcnet/v1/{net}/relay/`; (status, body).

        A PUT that the supplier does not answer is kept, and brought with the next request of that net; a GET
        is then answered from what was given before.

        Raises:
            OrderRefused: not our gateway's own, not of the founding, or too large; answer 403.
        """
        form = _PUT.fullmatch(resource) if method == "PUT" else _GET.fullmatch(resource)
        if form is None or method not in ("GET", "PUT"):
            raise OrderRefused("resource", "only what belongs to the founding is relayed")
        if not self._member(net, gateway) or form[form.lastindex or 0] not in (gateway, form[2]):
            raise OrderRefused("gateway", f"{gateway} may not ask for this")
        if len(body) > MAX_RELAYED_BYTES:
            raise OrderRefused("size", f"{len(body)} bytes")
        name = "-".join(("relay", net, *filter(None, form.groups())))
        if method == "PUT":
            waiting = [one for one in self._kept if one.startswith(f"relay-{net}-") and one.endswith(gateway)]
            if name not in waiting and len(waiting) >= MAX_WAITING:
                raise OrderRefused("many", f"{len(waiting)} things of {gateway} wait already")
            self._kept[name] = body
        else:
            await self._bring(net, except_for=name)
        try:
            status, answer = await self._forward(net, gateway, method, resource, body)
        except (WanError, OSError, ClientError) as error:
            self._emit(self._event(net, gateway, resource) | {"answer": str(error) or type(error).__name__})
            if method == "GET" and (known := self._kept.get(name)) is not None:
                return 200, known
            return (202, b"") if method == "PUT" else (504, b"")
        self._emit(self._event(net, gateway, resource) | {"answer": status})
        if status in _OK:
            if method == "PUT":
                self._kept.pop(name, None)
            else:
                self._kept[name] = answer
        return status, answer

    async def _bring(self, net: str, *, except_for: str) -> None:
        """Try again what the supplier has not taken."""
        for name in [one for one in self._kept if one.startswith(f"relay-{net}-") and one != except_for]:
            kind, version, *gateway = name.split("-")[2:]
            if not gateway:
                continue  # an answer
            resource = f"{kind}/{version}/{gateway[0]}"
            try:
                status, _ = await self._forward(net, gateway[0], "PUT", resource, self._kept[name])
            except (WanError, OSError, ClientError):
                return
            if status in _OK:
                self._kept.pop(name, None)

    @staticmethod
    def _event(net: str, gateway: str, resource: str) -> dict[str, object]:
        return {"event": "relay", "net": net, "gateway": gateway, "resource": resource}
