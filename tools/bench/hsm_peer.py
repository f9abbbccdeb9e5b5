"""PACE between libeac and libeac, timed in a process of its own: the reference of `smgw bench hsm`.

`python -m tools.bench.hsm_peer ROUNDS` prints the median in milliseconds, or leaves with status 3 if the
library is not installed. libeac is GPL-3: nothing of the product loads it, and this process is nobody's part.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from statistics import median
from time import perf_counter
from typing import Any

_PIN = 3
_ACCESS = bytes.fromhex("31143012060a04007f0007020204020202010202010d")
_SECRET = b"1234567890"
_IN, _OUT = c_void_p, c_void_p  # BUF_MEM*, only handed on
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "EAC_init": (None,),
    "EAC_CTX_new": (c_void_p,),
    "EAC_CTX_clear_free": (None, c_void_p),
    "EAC_CTX_init_ef_cardaccess": (c_int, c_char_p, c_size_t, c_void_p),
    "PACE_SEC_new": (c_void_p, c_char_p, c_size_t, c_int),
    "PACE_SEC_clear_free": (None, c_void_p),
    "PACE_STEP1_enc_nonce": (_OUT, c_void_p, c_void_p),
    "PACE_STEP2_dec_nonce": (c_int, c_void_p, c_void_p, _IN),
    "PACE_STEP3A_generate_mapping_data": (_OUT, c_void_p),
    "PACE_STEP3A_map_generator": (c_int, c_void_p, _IN),
    "PACE_STEP3B_generate_ephemeral_key": (_OUT, c_void_p),
    "PACE_STEP3B_compute_shared_secret": (c_int, c_void_p, _IN),
    "PACE_STEP3C_derive_keys": (c_int, c_void_p),
    "PACE_STEP3D_compute_authentication_token": (_OUT, c_void_p, _IN),
    "PACE_STEP3D_verify_authentication_token": (c_int, c_void_p, _IN),
}


def _load() -> Any:
    library = ctypes.CDLL("libeac.so.3")
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.EAC_init()
    return library


def _run(eac: Any) -> float:
    """One PACE, both ends; seconds. The buffers libeac hands out are a few kilobytes and stay."""
    ends = []
    for _ in range(2):
        context = eac.EAC_CTX_new()
        eac.EAC_CTX_init_ef_cardaccess(_ACCESS, len(_ACCESS), context)
        ends.append((context, eac.PACE_SEC_new(_SECRET, len(_SECRET), _PIN)))
    (card, card_secret), (terminal, terminal_secret) = ends
    started = perf_counter()
    done = eac.PACE_STEP2_dec_nonce(terminal, terminal_secret, eac.PACE_STEP1_enc_nonce(card, card_secret))
    of_card = eac.PACE_STEP3A_generate_mapping_data(card)
    of_terminal = eac.PACE_STEP3A_generate_mapping_data(terminal)
    done &= eac.PACE_STEP3A_map_generator(card, of_terminal)
    done &= eac.PACE_STEP3A_map_generator(terminal, of_card)
    card_point = eac.PACE_STEP3B_generate_ephemeral_key(card)
    terminal_point = eac.PACE_STEP3B_generate_ephemeral_key(terminal)
    done &= eac.PACE_STEP3B_compute_shared_secret(card, terminal_point)
    done &= eac.PACE_STEP3B_compute_shared_secret(terminal, card_point)
    done &= eac.PACE_STEP3C_derive_keys(card) & eac.PACE_STEP3C_derive_keys(terminal)
    of_card = eac.PACE_STEP3D_compute_authentication_token(card, terminal_point)
    of_terminal = eac.PACE_STEP3D_compute_authentication_token(terminal, card_point)
    done &= eac.PACE_STEP3D_verify_authentication_token(card, of_terminal)
    done &= eac.PACE_STEP3D_verify_authentication_token(terminal, of_card)
    spent = perf_counter() - started
    for context, secret in ends:
        eac.PACE_SEC_clear_free(secret)
        eac.EAC_CTX_clear_free(context)
    if done != 1:
        raise RuntimeError("libeac does not agree with libeac")
    return spent


def main() -> None:
    """Measure and print."""
    try:
        eac = _load()
    except OSError:
        sys.exit(3)
    _run(eac)
    print(1000 * median(_run(eac) for _ in range(int(sys.argv[1]))))  # the parent reads it


if __name__ == "__main__":
    main()
