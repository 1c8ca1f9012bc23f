"""Extract event features of any videos into an event store."""

from kuleshov.store.extract import add_arguments, main

__all__ = ["add_arguments", "run"]

run = main
