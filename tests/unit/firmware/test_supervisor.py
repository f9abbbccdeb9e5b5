"""Services: known faults restart, paced; a refused PIN and everything unknown stop the gateway: FPT_FLS.1."""

from __future__ import annotations

import asyncio

import pytest

from firmware.errors import StoreUnavailable
from firmware.supervisor import (
    FAULTS,
    Reporter,
    ServiceEnded,
    ServiceGroup,
    is_known_fault,
    run_gateway,
    supervise,
)
from hsm.errors import ChannelBroken, HsmError, PinRefused
from lmn.errors import LmnError, PortClosed
from wan.errors import PeerUnavailable, WanError


class Failing:
    """Raises what it is given, one after the other, then serves until cancelled."""

    def __init__(self, name, *errors):
        self.name, self.errors, self.starts, self.ended = name, list(errors), [], False

    async def run(self):
        self.starts.append(asyncio.get_running_loop().time())
        try:
            if self.errors:
                error = self.errors.pop(0)
                if error is not None:
                    raise error
                return
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def settle(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "error",
    [HsmError(), ChannelBroken(), LmnError(), PortClosed(), WanError(), PeerUnavailable(), StoreUnavailable(),
     OSError(), TimeoutError(), ConnectionResetError(), ExceptionGroup("g", [OSError(), LmnError()])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_a_known_fault_is_reported_and_the_service_starts_again(error):
    service, reports = Failing("one", error, error), []
    task = asyncio.ensure_future(supervise(service, lambda *report: reports.append(report), min_run_s=0.01))
    await settle(lambda: len(service.starts) == 3)
    assert reports == [("one", error)] * 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_restarts_are_paced():
    service = Failing("one", *[OSError()] * 5)
    task = asyncio.ensure_future(supervise(service, lambda *_: None, min_run_s=0.02))
    await settle(lambda: len(service.starts) == 6)
    task.cancel()
    gaps = [after - before for before, after in zip(service.starts, service.starts[1:], strict=False)]
    assert all(gap >= 0.019 for gap in gaps)


async def test_a_service_that_ends_by_itself_is_reported():
    service, reports = Failing("one", None), []
    task = asyncio.ensure_future(supervise(service, lambda *report: reports.append(report), min_run_s=0))
    await settle(lambda: len(service.starts) == 2)
    task.cancel()
    assert isinstance(reports[0][1], ServiceEnded)


@pytest.mark.parametrize(
    "error",
    [PinRefused("refused", 2), ValueError("ours"), AssertionError(), KeyError("k"),
     ExceptionGroup("g", [OSError(), ValueError()]), ExceptionGroup("g", [OSError(), PinRefused("no", 1)])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_a_refused_pin_and_what_is_unknown_stop_the_gateway(error):
    assert not is_known_fault(error)
    bad, good, reports = Failing("bad", error), Failing("good"), []
    with pytest.raises(BaseExceptionGroup) as stopped:
        await run_gateway([good, bad], lambda *report: reports.append(report), min_run_s=0)
    assert stopped.value.exceptions == (error,)
    assert good.ended
    assert len(bad.starts) == 1
    assert reports == []


async def test_stopping_ends_every_service():
    services = [Failing("one"), Failing("two", OSError())]
    gateway = asyncio.ensure_future(run_gateway(services, lambda *_: None))
    await settle(lambda: services[1].ended)
    gateway.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gateway
    assert all(service.ended for service in services)


async def test_the_reporter_hands_on_in_order_and_is_bounded():
    noted = []

    async def note(service, fault):
        noted.append((service, fault))

    reporter, fault = Reporter(note, capacity=3), OSError()
    for n in range(5):
        reporter(str(n), fault)
    assert reporter.dropped == 2
    await reporter.drain()
    assert noted == [("0", fault), ("1", fault), ("2", fault)]
    task = asyncio.ensure_future(supervise(reporter, lambda *_: None, min_run_s=0))
    reporter("late", fault)
    await settle(lambda: len(noted) == 4)
    task.cancel()


async def test_a_fault_that_could_not_be_noted_is_noted_later():
    noted, full = [], [True]

    async def note(name, _fault):
        if full:
            raise OSError("full")
        noted.append(name)

    reporter = Reporter(note)
    for name in ("first", "second"):
        reporter(name, OSError())
    with pytest.raises(OSError, match="full"):
        await reporter.run()
    full.clear()
    task = asyncio.ensure_future(reporter.run())
    await settle(lambda: len(noted) == 2)
    task.cancel()
    assert noted == ["first", "second"]
    await reporter.drain()
    assert len(noted) == 2


def test_faults_are_the_families():
    assert all(not issubclass(kind, (ValueError, AssertionError)) for kind in FAULTS)
    assert not is_known_fault(KeyboardInterrupt())
    assert not is_known_fault(asyncio.CancelledError())


async def test_members_of_a_group_come_and_go():
    first, second, third = Failing("first", OSError()), Failing("second"), Failing("third")
    reports = []
    group = ServiceGroup("group", lambda name, _: reports.append(name))
    group.replace({"a": first, "b": second})
    task = asyncio.ensure_future(group.run())
    await settle(lambda: first.starts and second.starts)
    group.replace({"b": second, "c": third})
    await settle(lambda: first.ended and third.starts)
    assert len(second.starts) == 1
    assert not second.ended
    assert reports == ["first"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.ended
    assert third.ended


async def test_a_member_that_fails_with_something_unknown_ends_its_group():
    bad, good = Failing("bad", PinRefused("no", 2)), Failing("good")
    group = ServiceGroup("group", lambda *_: None)
    group.replace({"bad": bad, "good": good})
    with pytest.raises(BaseExceptionGroup) as ended:
        await group.run()
    assert not is_known_fault(ended.value)
    assert good.ended
