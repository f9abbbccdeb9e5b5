"""A release is made by the gate and by nothing else (FDP_IFF.1/MTR)."""

from __future__ import annotations

import copy
import pickle

import pytest

from firmware.enforcement import gate, release
from firmware.enforcement.release import GateRelease
from wan.ports import Release


def made() -> GateRelease:
    return gate._make("emp", "id-1", b"value")


def test_the_gate_makes_one():
    one = made()
    assert isinstance(one, Release)
    assert (one.recipient, one.message_id, one.body) == ("emp", "id-1", b"value")


def test_the_text_shows_no_body():
    assert "value" not in repr(made())


@pytest.mark.parametrize("seal", [None, object(), b"", True])
def test_nobody_else_constructs_one(seal):
    with pytest.raises(PermissionError):
        GateRelease(seal, recipient="emp", message_id="id", body=b"")


def test_the_right_is_given_once():
    with pytest.raises(PermissionError):
        release.take_right()


def test_there_is_no_other_kind():
    with pytest.raises(TypeError):
        type("Other", (GateRelease,), {})


def test_an_empty_shell_carries_nothing():
    shell = object.__new__(GateRelease)
    with pytest.raises(AttributeError):
        shell.body.decode()


def test_it_does_not_change():
    one = made()
    with pytest.raises(AttributeError):
        one._recipient = "other"
    with pytest.raises(AttributeError):
        one.body = b"other"  # type: ignore[misc]  # the point
    with pytest.raises(AttributeError):
        del one._body


def test_it_is_neither_copied_nor_stored():
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(made())


def test_the_port_alone_is_abstract():
    with pytest.raises(TypeError):
        Release()  # type: ignore[abstract]  # the point
