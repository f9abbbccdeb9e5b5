"""FPT_PHP.1: the tamper contact, a file or a GPIO line."""

from __future__ import annotations

import asyncio
import errno
import os
import struct

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import FirmwareError
from firmware.life.tamper import driver, gpio
from firmware.life.tamper.driver import FileContact, GpioContact, TamperWatch
from tests.unit.firmware.life.world import START, turns


async def test_fpt_php_1_a_file_is_the_emulators_contact(world, tmp_path):
    seen = []

    async def tampered(text):
        seen.append(text)

    path = tmp_path / "opened"
    clock = AdjustableClock(START)
    task = asyncio.create_task(TamperWatch(FileContact(path), clock, tampered).run())
    await turns()
    assert seen == []
    path.write_text("the cover is off\nand more")
    clock.advance(0.5)
    await turns()
    path.write_text("")
    clock.advance(0.5)
    await turns()
    assert seen == ["the cover is off", "the file is there"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="Is a directory"):
        FileContact(tmp_path).opened()


def test_gpio_structures_have_the_kernels_layout():
    """Sizes, offsets and numbers as a C compiler gives them for linux/gpio.h (x86-64, headers 6.1)."""
    request = gpio.line_request(17, active_low=True, pull_up=True)
    assert len(request) == 592
    assert request[:4] == struct.pack("=I", 17)
    assert request[256:267] == b"smgw tamper"
    assert struct.unpack_from("=Q", request, 288)[0] == 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8
    assert struct.unpack_from("=II", request, 560) == (1, 16)
    assert (gpio.GET_LINE, gpio.GET_VALUES, gpio.EVENT_BYTES) == (0xC250B407, 0xC010B40E, 48)
    struct.pack_into("=i", request, 588, 9)
    assert gpio.line_descriptor(bytes(request)) == 9
    for broken in (bytes(592), b""):
        with pytest.raises(FirmwareError):
            gpio.line_descriptor(broken)


def test_a_gpio_line_is_read_and_short_openings_are_kept(tmp_path, monkeypatch):
    """The kernel's side is played here: no GPIO chip is at hand."""
    events, keep = os.pipe()
    chip = tmp_path / "gpiochip0"
    chip.touch()
    level = [0]

    def ioctl(descriptor, request, data):
        if request == gpio.GET_LINE:
            struct.pack_into("=i", data, 588, os.dup(events))
        else:
            assert request == gpio.GET_VALUES
            assert struct.unpack_from("=Q", data, 8)[0] == 1
            struct.pack_into("=Q", data, 0, level[0])

    monkeypatch.setattr(driver.fcntl, "ioctl", ioctl)
    with GpioContact(chip, 17) as contact:
        assert contact.opened() is None
        os.write(keep, bytes(96))
        assert contact.opened() == "line 17 was active for a moment"
        assert contact.opened() is None
        level[0] = 1
        assert contact.opened() == "line 17 is active"
    os.close(events)
    os.close(keep)
    with pytest.raises(FileNotFoundError), GpioContact(tmp_path / "none", 1):
        pass


def test_a_gpio_line_that_fails_says_so(tmp_path, monkeypatch):
    chip = tmp_path / "gpiochip0"
    chip.touch()

    def ioctl(descriptor, request, data):
        raise OSError(errno.ENOTTY, "no GPIO chip")

    monkeypatch.setattr(driver.fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="no GPIO"), GpioContact(chip, 1):
        pass
