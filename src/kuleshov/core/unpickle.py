"""Reading other people's pickles without running what is in them."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, KuleshovError

_BUILTINS = "dict list tuple set frozenset int float str bytes bool complex".split()
_PLAIN = {("builtins", name) for name in _BUILTINS} | {("collections", "OrderedDict"), ("_codecs", "encode")}
_NUMPY = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, source: str, stand_ins: Mapping[tuple[str, str], Any], **options) -> None:
        super().__init__(file, **options)
        self._source, self._stand_ins = source, stand_ins

    def find_class(self, module: str, name: str) -> Any:
        key = (module.replace("__builtin__", "builtins"), name)
        if key in self._stand_ins:
            return self._stand_ins[key]
        if key in _PLAIN or key in _NUMPY:
            return super().find_class(*key)
        raise KuleshovError(
            f"{self._source}: the pickle asks for {module}.{name}, which is not plain data: "
            "refused, nothing of it was run"
        )


def restricted_load(
    source: str | Path | bytes, stand_ins: Mapping[tuple[str, str], Any] | None = None, encoding: str = "ASCII"
) -> Any:
    """Unpickle plain containers, numbers, strings and NumPy arrays, and nothing else.

    Args:
        source: a file, or the pickle's bytes.
        stand_ins: harmless classes to take where the pickle names (module, name).
        encoding: of Python 2 strings; `latin1` for Caffe2 files.

    Raises:
        KuleshovError: the pickle asks for anything else; it is named, and nothing was run.
        FormatError: not a pickle, or cut short.
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return _Unpickler(io.BytesIO(raw), name, stand_ins or {}, encoding=encoding).load()
    except KuleshovError:
        raise
    except Exception as error:  # a damaged pickle may raise any error at all
        raise FormatError(name, f"not a readable pickle ({type(error).__name__}: {error})") from error
