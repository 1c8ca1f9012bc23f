"""Extract event features of any videos into an event store."""

from kuleshov.features.extract import add_arguments, main

__all__ = ["add_arguments", "run"]

run = main
