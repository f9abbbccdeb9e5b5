"""Evaluation of original lists by tariff use case (TAF): pure functions, one small module each.

`task` is what is evaluated, `steps` the rule engine that all stage tariffs share, `catalogue` the one table
that knows every use case.
"""
