"""Measured values: registration, original lists, tariff evaluation, data sets.

In the order of a value: `quantity` and `status` (what one is), `register` (which one counts), `original`
(where it is kept), `billing_calendar` and `local_time` (when periods end), `tariff` (what is made of it),
`happenings` (events that tariffs wait for), `running` (registers over periods), `signature`, `dataset` (what
a recipient gets).
"""
