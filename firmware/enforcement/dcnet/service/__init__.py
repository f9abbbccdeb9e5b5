"""One gateway's life in a net: every wait is in here, every rule is in `founding` and `slot`."""
