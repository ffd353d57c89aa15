"""``python -m apimart_async`` is the ``apimart`` command."""

from __future__ import annotations

from apimart_async.cli import main

main()
