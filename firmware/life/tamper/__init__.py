"""The tamper contact: a file in the emulator, a GPIO line on a Raspberry Pi."""
