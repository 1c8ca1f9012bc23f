"""Classes named by files: the package's own are imported, those of other packages when the user trusts them."""

import importlib
import os
from collections.abc import Iterable
from typing import Any

from kuleshov.core.errors import KuleshovError, one_line

TRUST = "KULESHOV_TRUST"  # packages named by `--trust`, for this process and those that it starts


def trust(packages: Iterable[str]) -> None:
    """Let `import_named` import classes of these packages, here and in processes that are started later."""
    os.environ[TRUST] = ",".join(sorted({*trusted(), *packages}))


def trusted() -> set[str]:
    """The packages that the user has named."""
    return {name for name in os.environ.get(TRUST, "").split(",") if name}


def import_named(path: str, named_in: str = "", by_user: bool = False) -> Any:
    """Import a class or function by its dotted path.

    Args:
        path: such as `kuleshov.tasks.verbs.VerbTask`.
        named_in: the file that names it, for messages.
        by_user: whether the user named it in a configuration of this very command, which is trust enough.

    Raises:
        KuleshovError: it belongs to a package that the user has not named, or is not there.
    """
    where = f"{named_in}: " if named_in else ""
    home, _, name = path.rpartition(".")
    package = home.partition(".")[0]
    if not by_user and package != "kuleshov" and package not in trusted():
        raise KuleshovError(
            f"{where}{path} is code of another package, which is run only if you say so: add --trust {package or path}"
        )
    try:
        return getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise KuleshovError(f"{where}cannot import {path} ({one_line(str(error))}): is it installed?") from error


def class_path(value: Any) -> str:
    """The dotted path of an object's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
