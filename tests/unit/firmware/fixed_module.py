"""A security module whose STORE key is chosen, so that a child process can have the same one."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from hsm.api import KeySlot
from tests.support.soft_module import SoftModule


def module_of(private_value: int = 4711) -> SoftModule:
    module = SoftModule()
    module.keys[KeySlot.STORE] = ec.derive_private_key(private_value, ec.BrainpoolP256R1())
    return module
