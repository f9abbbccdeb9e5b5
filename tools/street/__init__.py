"""A street: many complete gateways in one process, for experiments and load."""
