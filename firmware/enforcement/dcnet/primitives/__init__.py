"""Arithmetic of a DC-net: pads, key chains, graphs, shares, hash trees. Bytes and numbers, no I/O."""
