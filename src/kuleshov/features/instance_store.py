"""Reading instances: detected boxes on their tracks, each with its region feature."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kuleshov.core.errors import StoreError
from kuleshov.features.feature_store import FeatureStore
from kuleshov.features.store_index import COLUMNS


@dataclass(frozen=True)
class Instances:
    """All instances of one movie, by second, then in the source's order.

    Attributes:
        features: (I, F) region features.
        boxes: (I, 4) float32 x1, y1, x2, y2 as shares of the frame's width and height.
        seconds: (I,) int32, ascending: the second of the movie that the box was seen in.
        tracks: (I,) int32, equal numbers are one track within a movie.
        shots: (I,) int32, the shot of the second; 0 where shots are not known.
        scores: (I,) float32, the detector's confidence; 1 where it is not known.
    """

    features: NDArray
    boxes: NDArray
    seconds: NDArray
    tracks: NDArray
    shots: NDArray
    scores: NDArray

    def __len__(self) -> int:
        return len(self.seconds)


def instances(
    features: NDArray,
    boxes: NDArray,
    seconds: NDArray,
    tracks: NDArray,
    shots: NDArray | None = None,
    scores: NDArray | None = None,
) -> Instances:
    """Make a movie's instances from arrays in any order of seconds (the order within a second is kept).

    Raises:
        StoreError: arrays of different lengths, a box without area, or a feature that is not finite.
    """
    count = len(seconds)
    columns = {
        "features": np.asarray(features),
        "boxes": np.asarray(boxes, np.float32),
        "seconds": np.asarray(seconds, np.int32),
        "tracks": np.asarray(tracks, np.int32),
        "shots": np.zeros(count, np.int32) if shots is None else np.asarray(shots, np.int32),
        "scores": np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32),
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if set(lengths.values()) != {count}:
        raise StoreError(f"a movie's instance arrays differ in length: {lengths}")
    order = np.argsort(columns["seconds"], kind="stable")
    found = Instances(**{name: column[order] for name, column in columns.items()})
    if not np.isfinite(found.features).all():
        raise StoreError("a movie's instance features are not all finite numbers")
    if not (found.boxes[:, 2:] > found.boxes[:, :2]).all():
        raise StoreError("a movie has a box without area (x2 <= x1 or y2 <= y1)")
    return found


class InstanceStore(FeatureStore):
    """The instances of many movies, memory-mapped: a movie is read from disk when it is asked for.

    Its arguments are `FeatureStore`'s.
    """

    kind = "instances"

    def count(self, movie_id: str) -> int:
        """Number of a movie's instances, 0 for a movie that the store does not have."""
        return self.index.movies[movie_id].rows if movie_id in self else 0

    def columns(self, movie_id: str) -> dict[str, NDArray]:
        """A movie's boxes, seconds, tracks, shots and scores, without the features."""
        return {name: self.column(movie_id, name).numpy().copy() for name in COLUMNS[self.kind]}

    def features(self, movie_id: str) -> NDArray:
        """A movie's region features, float32 (I, F)."""
        return self.column(movie_id, "features").float().numpy()

    def movie(self, movie_id: str) -> Instances:
        """All of a movie."""
        return Instances(features=self.features(movie_id), **self.columns(movie_id))
