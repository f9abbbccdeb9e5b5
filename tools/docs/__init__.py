"""Draws the documentation's pictures from data; `python -m tools.docs` writes, `--check` compares."""
