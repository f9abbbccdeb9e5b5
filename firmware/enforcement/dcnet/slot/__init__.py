"""The rules of one slot and the memory they need: round, chain, ledger, recovery, audit, reconcile."""
