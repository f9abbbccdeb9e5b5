"""Wired meters on RS-485: frames, link, protection; no I/O but in `driver`."""
