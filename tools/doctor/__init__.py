"""What a user types when nothing works: looks at machine, configuration, lines and module."""
