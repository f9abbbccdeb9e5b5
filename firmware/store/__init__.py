"""What the gateway keeps: sealed partitions, each one file, and the typed stores on top of them."""
