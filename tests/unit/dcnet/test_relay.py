"""An administrator relays what the supplier does not, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.dcnet.conduct_parties import GATEWAY, OTHER
from tests.unit.dcnet.support import NET
from tools.counterparts.net_relay import MAX_RELAYED_BYTES, NetRelay
from wan.errors import OrderRefused, PeerUnavailable


class Relayed:
    """A relay whose supplier answers as `answers` says."""

    def __init__(self) -> None:
        self.answers: Callable[[str, str], tuple[int, bytes]] = lambda method, resource: (200, b"answer")
        self.asked: list[tuple[str, str, bytes]] = []
        self.kept: dict[str, bytes] = {}
        self.relay = NetRelay(
            lambda net, gateway: (net, gateway) in {(NET.hex(), GATEWAY), (NET.hex(), OTHER)},
            self._forward,
            lambda event: None,
            kept=self.kept,
        )

    async def _forward(
        self, net: str, gateway: str, method: str, resource: str, body: bytes
    ) -> tuple[int, bytes]:
        answer = self.answers(method, resource)
        self.asked.append((method, resource, body))
        return answer

    async def ask(self, method: str, resource: str, body: bytes = b"") -> tuple[int, bytes]:
        return await self.relay.relay(NET.hex(), GATEWAY, method, resource, body)

    def away(self, method: str, resource: str) -> tuple[int, bytes]:
        raise PeerUnavailable("away")


async def test_a_relay_keeps_what_the_supplier_does_not_take_and_serves_what_it_gave() -> None:
    world = Relayed()
    assert await world.ask("GET", "roster/1") == (200, b"answer")
    world.answers = world.away
    assert await world.ask("GET", "roster/1") == (200, b"answer")
    assert (await world.ask("GET", "graph/1"))[0] == 504
    assert (await world.ask("PUT", f"bundle/1/{GATEWAY}", b"bundle"))[0] == 202
    world.asked.clear()
    world.answers = lambda method, resource: (403, b"")
    assert (await world.ask("PUT", f"bundle/1/{GATEWAY}", b"bundle"))[0] == 403
    world.answers = lambda method, resource: (201, b"")
    await world.ask("GET", "graph/1")
    assert ("PUT", f"bundle/1/{GATEWAY}", b"bundle") in world.asked[1:]
    assert not [name for name in world.kept if "bundle" in name]


@pytest.mark.parametrize(
    ("method", "resource", "body"),
    [
        ("PUT", f"submit/5/{GATEWAY}", b""),
        ("PUT", f"bundle/1/{OTHER}", b""),
        ("GET", "manifest/5/1", b""),
        ("GET", f"bundle/1/{GATEWAY}", b""),
        ("PUT", "roster/1", b""),
        ("POST", "roster/1", b""),
        ("GET", "roster/1/../../x", b""),
        ("GET", "roster/1?x", b""),
        ("PUT", f"bundle/1/{GATEWAY}", bytes(MAX_RELAYED_BYTES + 1)),
    ],
)
async def test_nothing_else_is_relayed(method: str, resource: str, body: bytes) -> None:
    world = Relayed()
    with pytest.raises(OrderRefused):
        await world.ask(method, resource, body)
    with pytest.raises(OrderRefused):
        await world.relay.relay("00" * 8, GATEWAY, "GET", "roster/1", b"")
    assert not world.asked


async def test_a_gateway_cannot_fill_the_relay() -> None:
    world = Relayed()
    world.answers = world.away
    for version in range(1, 9):
        assert (await world.ask("PUT", f"bundle/{version}/{GATEWAY}", b"bundle"))[0] == 202
    with pytest.raises(OrderRefused, match="many"):
        await world.ask("PUT", f"bundle/9/{GATEWAY}", b"bundle")
    assert (await world.ask("PUT", f"bundle/8/{GATEWAY}", b"bundle"))[0] == 202
