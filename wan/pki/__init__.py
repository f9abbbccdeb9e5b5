"""The SM-PKI as the gateway sees it: certificate profiles and requests."""
