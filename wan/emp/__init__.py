"""Market participants: what a supplier gets, and how it arrives exactly once."""
