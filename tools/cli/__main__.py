"""`python -m tools.cli`: what the wrapper starts from a checkout."""

from __future__ import annotations

from tools.cli.main import main

main()
