"""The features of one or more stores as one table of rows, on the device that needs them, and movies as its spans."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from kuleshov.backbones.backbone_spec import phases_of
from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features.feature_store import EventStore

Placement = Literal["auto", "device", "host", "mmap"]
# what has to stay free on a device for the model, its optimizer and the queue
DEVICE_SHARE = 0.5


@dataclass(frozen=True)
class Movies:
    """Movies as spans of rows: their ids, first row and number of events, int64 (movies,) each."""

    ids: tuple[str, ...]
    first: np.ndarray
    count: np.ndarray

    def only(self, keep: np.ndarray) -> "Movies":
        """The movies where `keep` (bool) is true."""
        return Movies(tuple(np.array(self.ids, dtype=object)[keep]), self.first[keep], self.count[keep])

    def rows(self) -> np.ndarray:
        """All rows of these movies, int64."""
        spans = [np.arange(f, f + c) for f, c in zip(self.first, self.count, strict=True)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *spans])

    def split(self, fraction: float, excluded: Sequence[str] = ()) -> tuple["Movies", "Movies"]:
        """Hold out a share of the movies for validation, by a hash of their ids; excluded ids are in neither part.

        The split does not depend on the order of the movies, nor on which others there are.
        """
        left_out = set(excluded)
        keep = np.array([name not in left_out for name in self.ids], dtype=bool)
        digests = [hashlib.sha256(name.encode("utf-8")).digest() for name in self.ids]
        held = np.array([int.from_bytes(digest[:6]) / 2**48 < fraction for digest in digests], dtype=bool)
        return self.only(keep & ~held), self.only(keep & held)


class EventTable:
    """Rows of event features, from stores that were made alike: gathered by index, on the device if they fit.

    Args:
        folders: event stores; a movie that is in several counts once, from the first.
        placement: `device` keeps all rows on the training's device, `host` in memory, `mmap` on disk;
            `auto` takes the device if the rows fill at most half of its free memory, else the host.

    Raises:
        StoreError: no store, or stores that differ in width, window, stride or backbone.
    """

    def __init__(self, folders: Sequence[str], placement: Placement = "auto") -> None:
        if placement not in get_args(Placement):
            raise KuleshovError(f"placement is auto, device, host or mmap, not {placement!r}")
        if not folders:
            raise KuleshovError("no event store given: name at least one folder in `stores`")
        self.placement = placement
        self.stores = [EventStore(folder, memory=placement != "mmap") for folder in folders]
        first = self.stores[0]
        for other in self.stores[1:]:
            for what in ("width", "window", "stride", "backbone_sha256"):
                if (one := getattr(first, what)) != (two := getattr(other, what)):
                    raise StoreError(f"{first.folder} has {what} {one}, {other.folder} has {two}: extract both alike")
        self.bases = np.cumsum([0, *(int(store.offsets[-1]) for store in self.stores)])
        self._rows: Tensor | None = None
        if placement != "mmap":
            tensors = [store.to_torch()[0] for store in self.stores]
            self._rows = tensors[0] if len(tensors) == 1 else torch.cat(tensors)  # of the wider dtype
        self._resident: Tensor | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.stores[0].width

    def __len__(self) -> int:
        return int(self.bases[-1])

    def movies(self) -> Movies:
        """The movies of all stores, by the first store that has them."""
        spans: dict[str, tuple[int, int]] = {}
        for store, base in zip(self.stores, self.bases, strict=False):
            for name in store.movie_ids:
                rows = store.rows_of(name)
                spans.setdefault(name, (base + rows.start, len(rows)))
        first, count = np.array(list(spans.values()), dtype=np.int64).reshape(-1, 2).T
        return Movies(tuple(spans), first, count)

    def take(self, index: Tensor) -> Tensor:
        """Rows by number, int64 (...) -> float32 (..., D), on the index's device."""
        if self._resident is not None and self._resident.device == index.device:
            return self._resident[index].float()
        where = index.cpu()
        if self._rows is not None:
            return self._rows[where].float().to(index.device)
        out = torch.empty(*where.shape, self.width)
        for number, store in enumerate(self.stores):
            inside = (where >= self.bases[number]) & (where < self.bases[number + 1])
            if bool(inside.any()):
                out[inside] = store.take(where[inside] - self.bases[number]).float()
        return out.to(index.device)

    def locate(self, row: int) -> tuple[str, float]:
        """The movie that a row belongs to, and the second at which its event begins."""
        number = int(np.searchsorted(self.bases, row, side="right")) - 1
        store, inside = self.stores[number], row - int(self.bases[number])
        movie = store.movie_ids[int(torch.searchsorted(store.offsets, inside, right=True)) - 1]
        return movie, store.times(movie)[inside - store.rows_of(movie).start]

    def to(self, device: torch.device) -> "EventTable":
        """Keep the rows on a device from now on, if the placement allows it."""
        if self._rows is None or self.placement == "host":
            return self
        if self._resident is None or self._resident.device != device:
            if device.type == "cpu" or self.placement == "device" or self._fits(device):
                self._resident = self._rows.to(device)
        return self

    def _fits(self, device: torch.device) -> bool:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        return self._rows.numel() * self._rows.element_size() <= DEVICE_SHARE * free

    def describe(self) -> dict[str, Any]:
        """For manifests: where the features come from."""
        common = {name: getattr(self.stores[0], name) for name in ("window", "stride", "backbone_sha256")}
        made = {"trained": phases_of(self.stores[0].manifest.get("backbone") or {})}
        sets = sorted({str(store.manifest.get("data") or "unknown") for store in self.stores})
        return {"stores": [str(store.folder) for store in self.stores], "sets": sets, **made, **common}
