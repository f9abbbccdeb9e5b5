"""Homes with real gateways, and the parties around them: what a demo and a street are made of."""
