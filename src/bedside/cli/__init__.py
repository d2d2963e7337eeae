"""The command line: thin commands over the same parts that the gateway runs on."""

from bedside.cli.main import app, main

__all__ = ["app", "main"]
