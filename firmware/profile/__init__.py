"""Profiles: what the administrator says may be measured, evaluated and sent.

`model`, `tariffs` and `proxy` are the typed structures, `codec` reads and writes them, `check` and its two
neighbours find every fault at once. `orders` says what an order makes of the active set, `record` what is
kept of that, `registry` makes it durable and tells everybody; `difference` shows people what an order would
change.
"""
