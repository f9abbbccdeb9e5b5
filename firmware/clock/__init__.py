"""Time: the clock everything asks, its discipline by samples, and who takes them."""
