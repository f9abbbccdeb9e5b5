"""M-Bus above the link: headers, security, records. Bytes in, values out; no I/O, no clock."""
