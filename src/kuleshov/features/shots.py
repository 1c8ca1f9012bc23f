"""Shots of a video, by PySceneDetect, an optional extra."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kuleshov.core.errors import KuleshovError, VideoError, one_line


def shots_of(path: Path, seconds: NDArray) -> NDArray:
    """The shots, numbered from 0, that the middles of some whole seconds of a video lie in: (I,) to (I,) int64.

    Raises:
        KuleshovError: PySceneDetect is not installed.
        VideoError: it cannot read the video.
    """
    try:
        from scenedetect import AdaptiveDetector, SceneManager, open_video
        from scenedetect.video_stream import VideoOpenFailure
    except ImportError as error:
        raise KuleshovError(f"shots need PySceneDetect: pip install 'kuleshov[shots]' ({error})") from error
    manager = SceneManager()
    manager.add_detector(AdaptiveDetector())
    try:
        manager.detect_scenes(open_video(str(path), backend="pyav"))
    except (VideoOpenFailure, OSError, ValueError) as error:
        raise VideoError(path, f"no shots were found in it ({one_line(str(error))})") from error
    begins = np.array([first.seconds for first, _ in manager.get_scene_list(start_in_scene=True)])
    return np.maximum(np.searchsorted(begins, seconds + 0.5, "right") - 1, 0)
