"""Tools around DC-nets that need no gateway: computing, simulating and judging whole nets."""
