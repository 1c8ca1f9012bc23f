"""Calling a command function with words of the command line."""

from collections.abc import Callable
from typing import Any

import pytest
from jsonargparse import ArgumentParser


@pytest.fixture
def command() -> Callable[..., Any]:
    """Call a function with `--name value` words, parsed by its signature."""

    def call(function: Callable[..., Any], *words: Any) -> Any:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_function_arguments(function)
        return function(**parser.parse_args([str(word) for word in words]).as_dict())

    return call
