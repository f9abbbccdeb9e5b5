"""Measured values: registration, original lists, tariff evaluation, data sets."""
