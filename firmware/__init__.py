"""The gateway's CPU: composition, stores, policy and time. `boot` puts all of it together.

Where a reading goes: a driver of `lmn` hears it (lines and heads: `wired`). `flow.intake` authenticates it,
stamps it and stores it. `metering.register` picks the value of a registration instant, `metering.original`
keeps it, `metering.tariff` evaluates it as `profile` says. `enforcement.gate` releases it to a recipient, or
denies it. `flow.delivery` puts a release into the outbox; a value to conceal goes to `enforcement.dcnet`
instead; `wide_area` holds the links.

Around that road: `store` (sealed files), `log` and `chronicle` (what is written about it), `orders` (what the
administrator wants), `clock`, `life` (states, self-test, tampering, end), `supervisor` (restarts).
"""
