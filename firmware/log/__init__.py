"""The three legal logs (system, consumer, calibration) and the operators' diagnostics, kept apart.

`entry` and `vocabulary` say what an entry is, `journal` keeps and chains them, `seal` and `sealer` have the
module sign where chains stand, `reading` hands out what a role may read, `export` is checked off the gateway.
`audit` names faults, `analysis` looks for attacks, `notices` wait for the administrator.
"""
