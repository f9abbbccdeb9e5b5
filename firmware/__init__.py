"""The gateway's CPU: composition, stores, policy and time."""
