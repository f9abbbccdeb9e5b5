"""How a roster becomes a membership: beacon, peers authorised at both ends, checks, edge keys."""
