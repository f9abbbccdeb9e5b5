"""The `smgw` command: one module per subcommand."""
