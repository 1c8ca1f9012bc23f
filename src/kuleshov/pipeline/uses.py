"""What the user gives in place of a stage's need: weights or a store made elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import KuleshovError, MissingDataError, StoreError, UsageError
from kuleshov.core.files import read_json, sha256_file
from kuleshov.datasets.vidsitu_format import read_some
from kuleshov.features.store_index import INDEX, read_index, read_manifest

_PAPERS = ("k400", "vidsitu", "lvu")  # data sets whose stores stand for no other's
# output of a stage -> what has to be given for it
KINDS = {
    "weights": "backbone",
    "txe": "txe",
    "object-transformer": "object-transformer",
    "features": "events",
    "instances": "instances",
    "split": "split",
}
_ARCHITECTURES = {"txe": "txe", "object_transformer": "object-transformer"}  # of a manifest; any other is a backbone's


@dataclass(frozen=True)
class Use:
    """A file or folder that stands for a need.

    Attributes:
        need: the need's name; empty for every need of the same kind and method.
        data: the data set of the need; empty for any.
        path: weights (.safetensors), a store's folder, or a list of segments (.json).
        kind: backbone, txe, object-transformer, events, instances or split.
        trained: what the backbone, or the one behind it, has been through, by its manifest; empty where it does not
            say.
        digest: sha256 of the weights, or of the store's index.
    """

    need: str
    data: str
    path: Path
    kind: str
    trained: tuple[str, ...]
    digest: str

    def __str__(self) -> str:
        """What was given, in words."""
        return f"{self.kind} trained by {' '.join(self.trained)}" if self.trained else self.kind

    def stands_for(self, place: str, data: str, output: str, trained: tuple[str, ...]) -> bool:
        """Whether it stands for a need.

        Args:
            place: the need's name after those of the needs above it, `cvrl.backbone` for instance.
            data: its data set.
            output: what the stage that makes it calls its output.
            trained: what its backbone has to have been through; empty for any.

        Raises:
            KuleshovError: the need was named, and this is of another kind.
        """
        if not f".{place}".endswith(f".{self.need}" if self.need else "") or self.data not in ("", data):
            return False
        kind = KINDS.get(output, "something that only a stage can make")
        # a store that somebody else made does not say
        fits = not trained or trained == self.trained or bool(self.need and not self.trained)
        if self.need and kind != self.kind:
            raise KuleshovError(f"--use {self.need}={self.path}: it is {self.kind}, the need is {kind}")
        return kind == self.kind and fits


def read_use(text: str, home: str) -> Use:
    """Read `NEED=PATH` or `NEED@DATA=PATH`, and what lies there; NEED may name the needs above it too, `A.B`.

    Args:
        text: the words of `--use`.
        home: the data set of the stage that was asked for: a store is of this one where none is named.

    Raises:
        UsageError: another form, or a store whose data set is not told, or is another.
        StoreError: a store that is unfinished.
        FormatError: a list that is not one of segments.
        MissingDataError: there is nothing at the path.
        KuleshovError: weights without a manifest, or a folder that is no finished store.
    """
    target, equals, where = text.partition("=")
    name, _, data = target.partition("@")
    if not (name and equals and where):
        raise UsageError(f"--use takes NEED=PATH or NEED@DATA=PATH, got {text!r}")
    path = Path(where)
    if path.is_dir():
        if not (data or home):
            raise UsageError(f"--use {text}: say of which data set, such as {name}@vidsitu={where}")
        kind = str(read_json(path / INDEX, "index of a store", "name a finished store", dict).get("kind"))
        read_index(path, kind)
        manifest = read_manifest(path)
        if manifest.get("complete") is False:
            raise StoreError(f"--use {text}: the store is unfinished, its extraction has to be run again")
        made, wanted = manifest.get("data"), data or home
        if made in _PAPERS and wanted in _PAPERS and made != wanted:
            raise UsageError(
                f"--use {text}: the store has events of {made}, not of {wanted}: write {name}@{made}={where}"
            )
        trained = (manifest.get("backbone") or {}).get("trained") or ()
        return Use(name, wanted, path, kind, _told(trained), sha256_file(path / INDEX))
    if path.suffix == ".json" and path.is_file():
        read_some(path)
        return Use(name, data, path, "split", (), sha256_file(path))
    return read_weights(path, name, data)


def read_weights(path: Path, name: str = "", data: str = "") -> Use:
    """Weights and what their manifest says; one without a manifest is taken for a backbone's.

    Raises:
        MissingDataError: there is no such file.
        UsageError: a file of another kind.
    """
    if path.is_file() and path.suffix != ".safetensors":
        raise UsageError(f"{path}: weights are a .safetensors file: `kuleshov import-weights` converts others")
    if not path.is_file():
        raise MissingDataError("weights", path.absolute(), "`kuleshov import-weights` converts other files")
    beside = path.with_suffix(".json")
    manifest = read_json(beside, expected=dict) if beside.is_file() else {}
    kind = _ARCHITECTURES.get(str(manifest.get("architecture")), "backbone")
    trained = manifest.get("trained") or (manifest.get("data") or {}).get("trained") or ()
    return Use(name, data, path, kind, _told(trained), sha256_file(path))


def _told(trained: Sequence[str]) -> tuple[str, ...]:
    """What a manifest says of a backbone's training; a TxE on features of nobody knows whose has `unknown`."""
    return () if list(trained) == ["unknown"] else tuple(map(str, trained))
