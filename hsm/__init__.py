"""Access to the security module. Imports nothing else of this project."""
