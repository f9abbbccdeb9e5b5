"""FDP_IFC.2, FDP_IFF.1/MTR: whatever a whole gateway sends was released by the gate for that recipient."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from firmware.enforcement import gate
from firmware.log.entry import Event
from tests.support.whole_gateway import CONSUMER, NAME, Road, eventually
from tools.counterparts.gwa import place_order
from wan.client import HttpChannel, Reply

ASKS = ("GET", f"/gwa/v1/{NAME}/orders")
"""The one request that carries nothing; it names the gateway alone."""


@dataclass(frozen=True)
class Sent:
    """One request as it left, before TLS."""

    peer: str
    method: str
    resource: str
    body: bytes


Made = tuple[str, str, bytes]
"""Recipient, message id and body of a release."""


def unreleased(sent: Iterable[Sent], made: Iterable[Made]) -> list[Sent]:
    """Return what no release of the gate accounts for: another recipient, another id, another body."""
    made = list(made)
    found = []
    for one in sent:
        if not one.body and (one.method, one.resource) == ASKS:
            continue
        last = one.resource.rpartition("/")[2]
        sealed = "/deliveries/" in one.resource or "/forwards/" in one.resource
        to = one.resource.split("/")[-2] if "/forwards/" in one.resource else one.peer
        if not any(
            recipient == to and (identity == last if sealed else body == one.body)
            for recipient, identity, body in made
        ):
            found.append(one)
    return found


class Recorder:
    """Records every release that is made and every request that leaves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Made] = []
        self.sent: list[Sent] = []
        make, once = gate._make, HttpChannel._once

        def recorded_make(recipient: str, message_id: str, body: bytes, **names: str) -> Any:
            self.made.append((recipient, message_id, body))
            return make(recipient, message_id, body, **names)

        async def recorded_once(
            channel: HttpChannel, method: str, resource: str, body: bytes, headers: Any
        ) -> Reply:
            self.sent.append(Sent(channel.peer_name, method, resource, body))
            return await once(channel, method, resource, body, headers)

        monkeypatch.setattr(gate, "_make", recorded_make)
        monkeypatch.setattr(HttpChannel, "_once", recorded_once)


async def test_fdp_iff_1_every_send_of_a_whole_run_matches_a_release(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders, receipts, a bill, an alarm, a wipe that is refused, a memory limit that is taken."""
    recorder = Recorder(monkeypatch)
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        road.order_bill()
        event = await road.delivered(life)
        refused = place_order(road.pki / "gwa", NAME, "wipe-consumer", {"consumer": CONSUMER})
        await life.entry(Event.ORDER_REFUSED, "active")
        taken = place_order(road.pki / "gwa", NAME, "memory-limit", {"percent": 80})

        async def answered() -> bool:
            receipts = [
                one.resource.rpartition("/")[2] for one in recorder.sent if "/receipts/" in one.resource
            ]
            return {refused, taken} <= set(receipts)

        await eventually(answered, "both receipts")
        assert await life.gateway._parts.stores.system.get("stores", "critical-percent") == bytes((80,))
        changes = [one for one in await life.consumer().entries() if one.event is Event.PROFILE_CHANGE]
        assert len(changes) == 1
    assert unreleased(recorder.sent, recorder.made) == []
    assert any("/deliveries/" in one.resource for one in recorder.sent)
    bodies = {identity: body for _, identity, body in recorder.made}
    document = json.loads(bodies[event["message_id"]])
    document.pop("padding")
    assert event["document"] == document, "what the supplier opened is what the gate released"


MADE: Made = ("emp", "m-1", b"body")


@pytest.mark.parametrize(
    "smuggled",
    [
        Sent("emp", "PUT", f"/emp/v1/gateways/{NAME}/deliveries/m-2", b"sealed"),
        Sent("other", "PUT", f"/emp/v1/gateways/{NAME}/deliveries/m-1", b"sealed"),
        Sent("emp", "POST", "/dcnet/v1/0/submit", b"another body"),
        Sent("gwa", "PUT", f"/gwa/v1/{NAME}/receipts/m-1", b"body"),
        Sent("gwa", "GET", f"/gwa/v1/{NAME}/orders?reading=17", b""),
        Sent("gwa", "PUT", f"/gwa/v1/{NAME}/forwards/other/m-1", b"sealed"),
        Sent("gwa", "PUT", f"/gwa/v1/{NAME}/forwards/emp/m-2", b"sealed"),
    ],
)
def test_what_was_not_released_is_found(smuggled: Sent) -> None:
    right = Sent("emp", "PUT", f"/emp/v1/gateways/{NAME}/deliveries/m-1", b"sealed")
    assert unreleased([right, Sent("emp", "POST", "/dcnet", b"body")], [MADE]) == []
    assert unreleased([right, smuggled], [MADE]) == [smuggled]
