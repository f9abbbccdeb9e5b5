"""What looks after a running gateway: operating states, self-test, tamper contact, control, end of life.

`states` is the table that everything else follows, `lifecycle` carries it; `care` puts the rest together:
`selftest` and `manifest`, `health`, `suspicion`, `tamper`, `control` with `callers` and `status`,
`decommission`.
"""
