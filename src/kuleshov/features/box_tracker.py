"""Boxes on tracks from videos alone, by ultralytics' detectors and ByteTrack, an optional extra (AGPL-3.0).

Neither the package nor its weights are downloaded unless a user does so; it is used through its documented
`YOLO(weights).track(frame, persist=...)`, and has been tried with a stand-in of that interface only.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kuleshov.core.errors import KuleshovError, MissingDataError, VideoError
from kuleshov.core.files import write_atomic
from kuleshov.features.instances import BOX_COLUMNS
from kuleshov.features.shots import shots_of
from kuleshov.features.store_index import Summary
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

Row = tuple[int, float, float, float, float, int, float]


class Tracker:
    """Finds people and objects in a video and follows them.

    Args:
        weights: a detector's file, as ultralytics reads it.
        rate: frames a second that the tracker sees; boxes are kept of the frame in the middle of each second.
        classes: class ids of the weights to keep; all by default.

    Raises:
        KuleshovError: ultralytics is not installed, or there is no such file of weights; none is downloaded.
    """

    def __init__(self, weights: str | Path, rate: int = 8, classes: Sequence[int] | None = None) -> None:
        if rate < 1:
            raise KuleshovError(f"a tracker needs at least one frame a second, not {rate}")
        try:
            from ultralytics import YOLO
        except ImportError as error:
            hint = "pip install 'kuleshov[detector]'"
            raise KuleshovError(f"boxes from videos need the package ultralytics: {hint} ({error})") from error
        if not Path(weights).is_file():
            raise MissingDataError("detector weights", Path(weights).absolute(), "check --detector")
        self.model = YOLO(str(weights))
        self.classes = list(classes) if classes is not None else None
        self.rate, self.reader = rate, VideoReader()

    def __call__(self, path: Path) -> Iterator[Row]:
        """Yield second, x1, y1, x2, y2 in pixels, track, score of every tracked box of a video.

        Raises:
            VideoError: the video cannot be read.
        """
        seconds = max(1, int(self.reader.probe(path).duration))
        times = (np.arange(seconds * self.rate) + 0.5) / self.rate
        for number, frames in self.reader.stream(path, ([time] for time in times)):
            # blue first, as OpenCV has it; the first frame of a video forgets the tracks of the one before
            image = np.ascontiguousarray(frames[0, :, :, ::-1])
            options = {"tracker": "bytetrack.yaml", "classes": self.classes, "verbose": False}
            found = self.model.track(image, persist=number > 0, **options)[0].boxes
            second, frame = divmod(number, self.rate)
            # no track is sure of anything yet
            if frame == self.rate // 2 and found is not None and found.id is not None:
                columns = (found.xyxy.tolist(), found.id.tolist(), found.conf.tolist())
                for (x1, y1, x2, y2), track, score in zip(*columns, strict=True):
                    if x2 > x1 and y2 > y1:
                        yield second, x1, y1, x2, y2, int(track), score


def write_boxes(videos: Sequence[Video], tracker: Tracker, output: str | Path, shots: bool = False) -> Summary:
    """Write the CSV that `instances.read_boxes` reads, with `shots` where they are asked for.

    Raises:
        KuleshovError: nothing was found in any video.
    """
    text, missing, count = io.StringIO(), [], 0
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow((*BOX_COLUMNS, "score", *(["shot"] if shots else [])))
    for video in videos:
        try:
            rows, reason = list(tracker(video.path)), "nothing was found"
            numbers = shots_of(video.path, np.array([row[0] for row in rows])) if shots and rows else ()
        except VideoError as error:
            rows, reason = [], error.reason
        if not rows:
            missing.append({"id": video.id, "reason": reason})
        for place, (second, *box, track, score) in enumerate(rows):
            shot = [numbers[place]] if shots else []
            lines.writerow((video.id, second, *(f"{side:.1f}" for side in box), track, f"{score:.3f}", *shot))
        count += len(rows)
    if not count:
        raise KuleshovError(f"no boxes in any of {len(videos)} videos: check the detector and the videos")
    write_atomic(output, text.getvalue())
    return Summary(str(output), "boxes", count, len(videos) - len(missing), len(videos), missing)
