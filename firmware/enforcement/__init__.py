"""The communication-profile enforcement layer: the one place that lets data out."""
