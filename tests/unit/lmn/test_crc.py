from __future__ import annotations

from typing import Any

from lmn.crc import crc16_en13757, crc16_kermit, crc16_x25
from tests.support.vectors import vectors

ALGORITHMS = {"en13757": crc16_en13757, "kermit": crc16_kermit, "x25": crc16_x25}


@vectors("lmn/crc.json")
def test_known_checksums(case: dict[str, Any]) -> None:
    assert ALGORITHMS[case["algorithm"]](bytes.fromhex(case["data"])) == case["crc"]


def test_each_bit_of_the_data_counts() -> None:
    data = bytes(range(40))
    for algorithm in ALGORITHMS.values():
        right = algorithm(data)
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            assert algorithm(bytes(changed)) != right
