"""The three legal logs (system, consumer, calibration) and the operators' diagnostics, kept apart."""
