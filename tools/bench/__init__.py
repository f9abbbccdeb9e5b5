"""Measured figures, each beside a named reference of the same run."""
