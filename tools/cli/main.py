"""The `smgw` command: finds the word, imports the one module behind it, and hands over."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Final

_COMMANDS: Final = {
    "demo": "the whole road on one machine: meters, gateways, administrator, supplier",
    "street": "many complete gateways in one process, for experiments and load",
    "init": "make a gateway's own folder with a commented configuration",
    "run": "the gateway itself, until Ctrl-C; the same as smgwd",
    "listen": "what does my stick hear; pick a meter, see its values, keep its profile",
    "doctor": "when nothing works: machine, configuration, sticks and lines, module, certificates",
    "decode": "telegrams to values",
    "meter": "a virtual meter on a virtual stick",
    "status": "what a running gateway does, and why it is not in its normal state",
    "log": "read a running gateway's legal logs; check an exported one anywhere",
    "decommission": "end a gateway's life: keys and data are destroyed",
    "hsm": "look at a security module, try it, show an emulated one as a smart card",
    "profile": "check profiles and flash them through the administrator's channel",
    "backup": "the sealed stores of a gateway as one file",
    "restore": "put a backup back, or look at stores that do not open",
    "dcnet": "DC-nets: show a gateway's, compute, simulate, find what leaks",
    "aggregate": "open the sums of many gateways, as a supplier does",
    "gwa": "the administrator, as a counterpart",
    "emp": "a supplier, as a counterpart",
    "pki": "a test SM-PKI",
    "bench": "measured figures beside a named reference",
}
"""Word -> what it does. The module tools.cli.<word> holds the command as `app`."""

_USAGE_ERROR: Final = 2


def _overview() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {word:<{width}}  {purpose}" for word, purpose in _COMMANDS.items()]
    return "\n".join(
        [
            "Smart Meter Gateway emulator: operate it, feed it, talk to it.",
            "",
            "usage: smgw COMMAND [options]      smgw COMMAND --help",
            "",
            *lines,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        raise SystemExit(0 if words else _USAGE_ERROR)
    word, *rest = words
    if word not in _COMMANDS:
        near = difflib.get_close_matches(word, _COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `smgw --help` lists the commands"
        print(f"smgw: no command {word!r}{hint}", file=sys.stderr)
        raise SystemExit(_USAGE_ERROR)
    importlib.import_module(f"tools.cli.{word}").app(args=rest, prog_name=f"smgw {word}")


if __name__ == "__main__":
    main()
