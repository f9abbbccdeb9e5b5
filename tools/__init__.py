"""Everything an operator or a developer runs beside the gateway."""
