"""The gateway's CPU: composition, stores, policy and time. `boot` puts all of it together.

Where a reading goes, driven by `flow.pipeline`: a driver of `lmn` hears it (lines and heads: `wired`).
`flow.intake` authenticates it, stamps it and stores it. `metering.register` picks the value of a
registration instant, `metering.original` keeps it. When a period of `enforcement.schedule` has ended,
`flow.evaluation` has `metering.tariff` evaluate it as `profile` says, `enforcement.gate` releases the result
to a recipient or denies it, and `flow.delivery` puts the release into the outbox; `wide_area` holds the
links. A value to conceal goes to `enforcement.dcnet` instead. The same as a table: docs/dataflow.md.

Around that road: `config` and `document` (what people write), `store` (sealed files), `transfer` (their
backup and restore), `housekeeping` (what is old goes), `log`, `chronicle` and `flow.meter_watch` (what is
written about it), `orders` (what the administrator wants), `clock`, `life` (states, self-test, suspicion,
tampering, end), `supervisor` (restarts). `parts` is what all of them are built on, `boot` builds them.
"""
