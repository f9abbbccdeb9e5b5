"""An administrator's long order holds nothing up: judged apart, its faults and its elements counted."""

from __future__ import annotations

import asyncio
import base64
import json
import threading

import pytest

from firmware.document import MAX_FAULTS, read_json
from firmware.errors import ConfigurationRefused
from firmware.orders.nets import WithdrawBody
from firmware.profile import codec, pem, registry
from firmware.profile.model import ProfileSet
from firmware.profile.orders import carry_out
from firmware.profile.registry import LONG_BYTES
from tests.unit.firmware.profile_set import EMP_TLS, billing, household, meter_profile, replace
from tests.unit.firmware.test_registry import World, order
from wan.cms import der
from wan.errors import MalformedMessage
from wan.gwa import client
from wan.gwa.client import MAX_ORDERS, decode_list


def street(meters: int) -> ProfileSet:
    """A set with many meters more than a household has."""
    more = (
        meter_profile(id=f"m{number}", meter=f"ELS-{number:08d}-33-02", consumer=f"c{number}")
        for number in range(meters)
    )
    return household(meters=(*household().meters, *more))


async def test_the_loop_turns_while_a_long_order_is_judged(monkeypatch):
    """Where it is judged it waits for the loop to have turned: in the loop itself that would be for ever."""
    turned, begun, threads = threading.Event(), asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def judged(*arguments, **options):
        threads.append(threading.get_ident())
        loop.call_soon_threadsafe(begun.set)
        assert turned.wait(30), "the loop stood still"
        return carry_out(*arguments, **options)

    monkeypatch.setattr(registry, "carry_out", judged)
    world = World(apart=asyncio.to_thread)
    body = codec.to_json(street(200))
    assert len(body) > LONG_BYTES

    async def others():
        await begun.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        turned.set()

    receipt, _ = await asyncio.gather(world.registry.apply(order(body)), others())
    assert receipt.accepted
    assert threads == [threads[0]] != [threading.get_ident()]
    assert world.registry.active == street(200)


async def test_short_orders_are_judged_at_once():
    async def apart(_work):
        raise AssertionError("a thread for nothing")

    world = World(apart=apart)
    assert (await world.registry.apply(order(household()))).accepted
    with pytest.raises(AssertionError):
        await world.registry.apply(order(street(200), version=2))
    assert world.registry.active == household()  # and the next one is not in its way
    assert (await world.registry.apply(order(ProfileSet(), version=3))).accepted


@pytest.mark.parametrize(
    "body",
    [
        {f"k{number}": 1 for number in range(20_000)},
        {"meters": [{}] * 100_000},
        {"meters": [1] * 200_000},
        {"communication": [{"net": {}}] * 10_000},
    ],
    ids=["keys", "empty", "numbers", "deep"],
)
async def test_nobody_looks_for_more_faults_than_are_read(body):
    with pytest.raises(ConfigurationRefused) as refused:
        read_json(json.dumps(body).encode(), ProfileSet, file="order")
    assert len(refused.value.faults) == MAX_FAULTS
    receipt = await World().registry.apply(order(json.dumps(body).encode()))
    assert receipt.code == "invalid"


def test_of_a_list_that_is_too_long_not_every_part_is_looked_at():
    hashes = ["0" * 64] * (4096 + MAX_FAULTS) + ["nothing"] * 10_000
    body = {"net": "0" * 16, "serial": 1, "certificates": hashes}
    with pytest.raises(ConfigurationRefused) as refused:
        read_json(json.dumps(body).encode(), WithdrawBody, file="order")
    assert [(one.key, "4096" in one.expected) for one in refused.value.faults] == [("certificates", True)]


def test_a_certificate_is_walked_through_once():
    pem.to_der.cache_clear()
    pem.key_fingerprint.cache_clear()
    many = tuple(replace(billing(), id=f"p{number}") for number in range(40))
    codec.from_json(codec.to_json(household(communication=many)), small_nets_allowed=False)
    assert pem.to_der.cache_info().misses == 3
    assert pem.to_der(EMP_TLS)[:1] == b"\x30"
    for _ in range(2):  # a refusal is not remembered as anything else
        with pytest.raises(ValueError, match="PEM"):
            pem.to_der("nothing")


@pytest.mark.parametrize("inside", [b"\x05\x00", b"\x30\x02\x05\x00", b"\x02\x01\x01"])
def test_a_message_of_a_million_elements_is_refused(inside):
    with pytest.raises(MalformedMessage, match="too many elements"):
        der.check(der.header(0x30, inside * ((1 << 20) // len(inside))))
    der.check(der.header(0x30, inside * 1000))


def test_a_message_of_several_elements_is_not_read_to_its_end(monkeypatch):
    seen = []
    elements = der.elements

    def counted(data):
        for one in elements(data):
            seen.append(one)
            yield one

    monkeypatch.setattr(der, "elements", counted)
    with pytest.raises(MalformedMessage, match="exactly one"):
        der.check(b"\x05\x00" * 100_000)
    assert len(seen) == 2


def test_too_many_orders_are_not_even_decoded(monkeypatch):
    texts = [base64.b64encode(b"order").decode()] * (MAX_ORDERS + 1)
    assert decode_list(json.dumps({"orders": texts[1:]}).encode()) == [b"order"] * MAX_ORDERS
    monkeypatch.setattr(client, "base64", None)
    with pytest.raises(MalformedMessage, match="too long"):
        decode_list(json.dumps({"orders": texts}).encode())
