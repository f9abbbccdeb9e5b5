"""Smart Message Language 1.04: transport frames, fields, messages; no I/O but in `driver`."""
