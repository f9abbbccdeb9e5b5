"""Meters on wires: lines and heads put together, and what the gateway shows and knows them by."""
