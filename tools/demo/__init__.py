"""The whole road on one machine: test PKI, administrator, supplier, gateways, modules, meters."""
