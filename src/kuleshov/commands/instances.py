"""Write an instance store: region features of tracked boxes, from videos or from LVU's own files."""

from kuleshov.features.instances_command import add_arguments, main

__all__ = ["add_arguments", "run"]

run = main
