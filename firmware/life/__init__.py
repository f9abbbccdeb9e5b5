"""What looks after a running gateway: operating states, self-test, tamper contact, control, end of life."""
