"""The communication-profile enforcement layer: the one place that lets data out.

`gate` decides and makes releases; everything else serves it. `release` (what it makes, and nobody else),
`schedule` (when instants, periods and deliveries fall), `content` and `uniform` (how much a data set may
tell, and that its size and moment tell nothing more), `determination` (what all profiles of a recipient
determine together), `pseudonym`, `dcnet` (values that are hidden in a sum). `roles` is the other table: who
may do what at the gateway's own doors.
"""
