"""The features of one or more stores as one table of rows, held where the training needs them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features.event_store import EventStore
from kuleshov.txe.windows import Movies

Placement = Literal["auto", "device", "host", "mmap"]
# what has to stay free on a device for the model, its optimizer and the queue
DEVICE_SHARE = 0.5


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
        if placement not in ("auto", "device", "host", "mmap"):
            raise KuleshovError(f"placement is auto, device, host or mmap, not {placement!r}")
        if not folders:
            raise KuleshovError("no event store given: name at least one folder in `stores`")
        self.placement = placement
        self.stores = [EventStore(folder, memory=placement != "mmap") for folder in folders]
        for store in self.stores[1:]:
            check_alike(self.stores[0], store)
        self.bases = np.cumsum([0, *(int(store.offsets[-1]) for store in self.stores)])
        self._rows: Tensor | None = None
        if placement != "mmap":
            tensors = [store.tensor()[0] for store in self.stores]
            dtypes = {tensor.dtype for tensor in tensors}
            wide = [tensor if len(dtypes) == 1 else tensor.float() for tensor in tensors]
            self._rows = wide[0] if len(wide) == 1 else torch.cat(wide)
        self._resident: Tensor | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.stores[0].width

    def __len__(self) -> int:
        return int(self.bases[-1])

    def movies(self) -> Movies:
        """The movies of all stores, by the first store that has them."""
        ids, first, count, seen = [], [], [], set()
        for store, base in zip(self.stores, self.bases, strict=False):
            for name in store.movie_ids:
                if name not in seen:
                    rows = store.rows_of(name)
                    seen.add(name)
                    ids.append(name)
                    first.append(base + rows.start)
                    count.append(len(rows))
        return Movies(tuple(ids), np.array(first, dtype=np.int64), np.array(count, dtype=np.int64))

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

    def settle(self, device: torch.device) -> bool:
        """Move the rows to the device if the placement says so; tells whether they are there now."""
        if self._rows is None or self.placement == "host":
            return False
        if device.type == "cpu":
            self._resident = self._rows
            return True
        if self._resident is None or self._resident.device != device:
            if self.placement == "auto" and not self._fits(device):
                return False
            self._resident = self._rows.to(device)
        return True

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda" or self._rows is None:
            return False
        free, _ = torch.cuda.mem_get_info(device)
        return self._rows.numel() * self._rows.element_size() <= DEVICE_SHARE * free

    def describe(self) -> dict[str, Any]:
        """For manifests: where the features come from."""
        store = self.stores[0]
        return {
            "stores": [str(one.folder) for one in self.stores],
            "window": store.window,
            "stride": store.stride,
            "backbone_sha256": store.backbone_sha256,
        }


def check_alike(first: EventStore, second: EventStore) -> None:
    """Refuse two stores whose features cannot be mixed.

    Raises:
        StoreError: width, window, stride or backbone differ.
    """
    for what in ("width", "window", "stride", "backbone_sha256"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise StoreError(f"{first.folder} has {what} {one}, {second.folder} has {other}: extract both alike")
