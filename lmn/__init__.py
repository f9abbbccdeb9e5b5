"""Local metrological network: from the bytes of a meter to a reading."""
