"""What can be found out about a security module from outside, over any transport."""
