"""What the gateway keeps: sealed partitions, each one file, and the typed stores on top of them.

From the top: `stores` (the three partitions together, and what parts keep in them) and `outbox`;
`partition` (what everybody else uses: asynchronous, one thread, commits in groups); `file` writes and
`rows` reads one file, `runs` lays records into rows, `schema` is SQLite, `seal` the cryptography,
`operations` what can be asked for. Beside them: `anchor` (older copies are noticed), `upkeep`, `retention`,
`wiping`, `memory` (what goes, and when room is short), `exchange` (files put in place of others).
"""
