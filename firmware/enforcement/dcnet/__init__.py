"""The stage of the enforcement layer that hides a reading in the sum of a group (docs/dcnet.md)."""
