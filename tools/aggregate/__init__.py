"""What a supplier runs: masked sums of many gateways, opened in columns. numpy, an extra."""
