"""Wireless M-Bus: frames on the air, sticks that receive them, the driver that runs one."""
