"""Child of `test_tearing`: changes a card in a folder until it is killed at a given system call.

`python -m tests.unit.hsm.card_child FOLDER`: for each line "N half" on standard input it forks; the fork
loads the card, works, and kills itself with SIGKILL before its N-th step of writing (with half = 1 in the
middle of it, if it is a write). What was acknowledged goes to standard output as it happens, then "killed"
or "finished".
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsm.api import Curve, KeySlot
from hsm.emulator import load_card
from hsm.emulator.card import PowerEvent
from tests.support.card import PIN, Terminal

NEW_PIN = b"0987654321"


def die_at(step: int, *, half: bool) -> None:
    """Count every call that touches the medium; the process is gone before the given one."""
    left = [step]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if half and original is write:
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return call

    write = os.write
    os.write = counted(os.write)
    os.open = counted(os.open)
    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]


def say(text: str, write: Callable[[int, bytes], int]) -> None:
    """Acknowledge: the parent may rely on it from now on."""
    write(1, text.encode() + b"\n")


def work(folder: Path, step: int, *, half: bool) -> None:
    """A PIN change, a key's activation, counts and failed PACE runs, each acknowledged when done."""
    write = os.write
    card = load_card(folder)
    card.power(PowerEvent.ON)
    terminal = Terminal(card)
    pins = [PIN, NEW_PIN] if card._context.state.pin == PIN else [NEW_PIN, PIN]
    terminal.log_in(pins[0])  # gives the tries back that the last life used
    card.power(PowerEvent.RESET)
    terminal = Terminal(card)
    die_at(step, half=half)
    terminal.log_in(pins[0])
    say("pin_left 3", write)
    client, run = terminal.client, terminal.run
    run(client.generate_key_pair(KeySlot.DCNET_1_NEXT, Curve.P256))
    say("pending 1", write)
    run(client.activate(KeySlot.DCNET_1))
    say("pending 0", write)
    say(f"counter {run(client.increase_counter())}", write)
    run(client.change_pin(pins[0], pins[1]))
    say(f"pin {pins[1].decode()}", write)
    card.power(PowerEvent.RESET)
    card.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d"))
    card.apdu(bytes.fromhex("10860000027c0000"))
    say("pin_left 2", write)
    os._exit(0)


def main() -> None:
    """Serve the parent."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            step, half = line.split()
            work(folder, int(step), half=half == "1")
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        os.write(1, b"killed\n" if killed else b"finished\n")


if __name__ == "__main__":
    main()
