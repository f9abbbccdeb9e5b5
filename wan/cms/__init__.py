"""Cryptographic message syntax as TR-03109-1 uses it; every private key by KeySlot through `hsm.api`."""
