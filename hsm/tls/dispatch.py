"""OSSL_DISPATCH and OSSL_ALGORITHM tables made of Python methods, kept alive for as long as the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hsm.tls.keys import note

P, INT, S, Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
U = ctypes.c_uint
PZ, PI, PP = ctypes.POINTER(Z), ctypes.POINTER(INT), ctypes.POINTER(P)


class Dispatch(ctypes.Structure):
    """OSSL_DISPATCH."""

    _fields_ = (("number", INT), ("function", P))


class Algorithm(ctypes.Structure):
    """OSSL_ALGORITHM."""

    _fields_ = (("names", S), ("properties", S), ("implementation", P), ("description", S))


@dataclass(frozen=True, slots=True)
class Function:
    """One entry of a dispatch table: OpenSSL's number for it, what is called, result and argument types."""

    number: int
    call: Callable[..., Any] | int
    """A Python function, or the address of one in C."""
    result: Any
    arguments: tuple[Any, ...]


class Registry:
    """Owns everything that C will keep pointing at."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def keep(self, item: Any) -> Any:
        """Keep something alive and return it."""
        self._kept.append(item)
        return item

    def table(self, functions: Sequence[Function]) -> int:
        """Return the address of a dispatch table."""
        rows = [Dispatch(function.number, self._pointer(function)) for function in functions]
        return ctypes.addressof(self.keep((Dispatch * (len(rows) + 1))(*rows, Dispatch(0, None))))

    def algorithm(self, names: str, properties: str, functions: Sequence[Function]) -> int:
        """Return the address of a list of one algorithm."""
        row = Algorithm(names.encode(), properties.encode(), self.table(functions), b"security module")
        return ctypes.addressof(self.keep((Algorithm * 2)(row, Algorithm())))

    def _pointer(self, function: Function) -> int | None:
        failure = None if function.result in (P, None) else 0
        call = function.call
        if isinstance(call, int):
            return call

        def guarded(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except BaseException as error:  # noqa: BLE001 - nothing may unwind through C; the engine raises it
                note(error)
                return failure

        callback = self.keep(ctypes.CFUNCTYPE(function.result, *function.arguments)(guarded))
        return ctypes.cast(callback, P).value
