"""The wide area network put together: who the gateway is there, whom it reaches, its nets."""
