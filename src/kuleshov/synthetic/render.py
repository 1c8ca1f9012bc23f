"""Rendering: the frames of one event, where its characters are in them, and the video of a whole movie.

An event off screen is drawn from the movie's style, its scene and a bystander alone. Nothing of the verb, the agent,
the patient or the staging enters its frames, and its random numbers come from a stream that the story does not share.
"""

import functools
import io
from collections.abc import Iterable

import av
import cv2
import numpy as np

from kuleshov.synthetic import figures
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.motions import EVENT_FRAMES, FPS, SIDE, Pose, Scene, choreograph, idle_sway
from kuleshov.synthetic.story import COUPLE, FRAMES, STAGING, STYLES, Story

BYSTANDER = 2
BEHIND = (3, 4)
# of the couple behind: size and place over the front's ground; by relationship, how far apart they are and whether they
# look at each other; how often an event shows any relationship, not the movie's
BEHIND_SIZE, BEHIND_UP = 0.42, 11.0
BEHIND_GAPS = (22.0, 22.0, 7.0, 7.0)
BEHIND_FACING = (True, False, False, True)
BEHIND_OTHERWISE = 0.2
# when the two main characters speak, an eighth of two seconds each step; one row a way of speaking
SPEECH = (
    ("11110000", "00000000"),
    ("11001100", "00110011"),
    ("11110000", "00001111"),
    ("11111111", "00000000"),
    ("11001100", "00000000"),
)
QUANTIZER = 24
_X264 = f"keyint={EVENT_FRAMES}:min-keyint={EVENT_FRAMES}:scenecut=0:bframes=0:threads=1:sync-lookahead=0"
GRAIN_STEP = 0.8
_GRAIN_BANK = 48
_CAMERAS = ("still", "zoom", "pan", "shake")
# red, green, blue: gain and offset of each of the four gradings
_GRADES = (
    ((1.06, 4), (1.0, 0), (0.90, 0)),
    ((0.92, 0), (0.98, 0), (1.06, 6)),
    ((0.88, 20), (0.88, 20), (0.88, 20)),
    ((1.10, -12), (1.10, -12), (1.10, -12)),
)
# index into the cast -> body points (T, 9, 2) in frame pixels, in the order in which they are drawn
Actors = dict[int, np.ndarray]


def event_frames(story: Story, index: int) -> np.ndarray:
    """The frames of one event, (16, 64, 64, 3) uint8 RGB."""
    look, scene_number = story.look(index), story.events[index].scene
    draw = story.stream(FRAMES, index)
    cameras = _camera(look["director"], draw)
    grain = draw.integers(0, [_GRAIN_BANK, SIDE, SIDE], size=(EVENT_FRAMES, 3))
    backdrop = figures.backdrop(scene_number, story.stream(STAGING, scene_number))
    frames = np.empty((EVENT_FRAMES, SIDE, SIDE, 3), np.uint8)
    for t, canvas in enumerate(_canvases(story, index, backdrop)):
        cv2.warpAffine(canvas, cameras[t], (SIDE, SIDE), dst=frames[t], borderMode=cv2.BORDER_REFLECT_101)
    return _develop(frames, look["director"], look["year"], grain)


def event_boxes(story: Story, index: int) -> dict[int, np.ndarray]:
    """Where each visible character is: cast index -> (16, 4) x1 y1 x2 y2 in pixels.

    Boxes are cut at the frame's edge; a character out of the frame has x1 >= x2.
    """
    cameras = _camera(story.look(index)["director"], story.stream(FRAMES, index))
    boxes = {}
    for member, points in _actors(story, index)[0].items():
        low, high = points.min(1) - [2.0, 3.0], points.max(1) + [2.0, 1.0]
        corners = np.stack([low, high], 1) * figures.SCALE  # (T, 2, 2) canvas pixels
        seen = np.einsum("tij,tcj->tci", cameras[:, :, :2], corners) + cameras[:, None, :, 2]
        boxes[member] = np.clip(seen.reshape(-1, 4), 0, SIDE)
    return boxes


def _actors(story: Story, index: int) -> tuple[Actors, Scene | None]:
    """Who is visible, those behind first, and, on screen, the things around them."""
    front, scene = _front(story, index)
    return {**(_couple(story, index) if story.couple else {}), **front}, scene


def _couple(story: Story, index: int) -> Actors:
    """The two who stand behind, small, and show the movie's relationship by their distance and their looks."""
    draw = story.stream(COUPLE, 1 + index)
    shown = story.style["relationship"]
    if draw.random() < BEHIND_OTHERWISE:
        shown = int(draw.integers(STYLES["relationship"]))
    middle, gap = draw.uniform(16, 48), BEHIND_GAPS[shown] + draw.uniform(-1.5, 1.5)
    actors = {}
    for member, side in zip(draw.permutation(BEHIND).tolist(), (-1.0, 1.0), strict=True):
        pose = Pose.standing(middle + side * gap / 2, -side if BEHIND_FACING[shown] else side)
        pose.front = pose.front + 1.2  # an arm says where they look
        pose.tilt = pose.tilt + idle_sway(draw)
        actors[member] = _points(story, member, pose, draw.uniform(-1, 1) - BEHIND_UP, BEHIND_SIZE)
    return actors


def _front(story: Story, index: int) -> tuple[Actors, Scene | None]:
    event = story.events[index]
    if event.off_screen:
        draw = story.stream(STAGING, 2000 + index)
        if draw.random() < 0.5:
            return {}, None
        pose = Pose.standing(draw.uniform(12, 52), draw.choice([-1.0, 1.0]))
        pose.tilt = pose.tilt + idle_sway(draw)
        return {BYSTANDER: _points(story, BYSTANDER, pose, draw.uniform(-1, 2))}, None
    draw = story.stream(STAGING, 1000 + index)
    scene = choreograph(VERBS[event.verb], draw, event.speed, event.place, event.mirrored)
    front, back = draw.uniform(-1.0, 2.0, size=2)
    patient = _points(story, event.patient, scene.patient, back)
    return {event.patient: patient, event.agent: _points(story, event.agent, scene.agent, front)}, scene


def _points(story: Story, member: int, pose: Pose, depth: float, size: float = 1.0) -> np.ndarray:
    return figures.body_points(pose, size * figures.CHARACTERS[story.cast[member]].scale, figures.GROUND + depth)


def _camera(director: int, draw: np.random.Generator) -> np.ndarray:
    """Affine maps (T, 2, 3) from canvas to frame of a director's camera in one event."""
    kind = _CAMERAS[(director // 4 + director) % 4]
    way, time = draw.choice([-1.0, 1.0]), np.linspace(-0.5, 0.5, EVENT_FRAMES)
    shake = draw.uniform(-1.2, 1.2, size=(EVENT_FRAMES, 2))
    zoom, shift = np.full(EVENT_FRAMES, 1.03), np.zeros((EVENT_FRAMES, 2))
    if kind == "zoom":
        zoom = 1.08 + 0.12 * way * time
    elif kind == "pan":
        shift[:, 0] = 5.0 * way * time
    elif kind == "shake":
        shift = shake
    maps = np.zeros((EVENT_FRAMES, 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = zoom / figures.SCALE
    # the middle of the canvas goes to the middle of the frame, plus the shift; pixel centers at +0.5
    maps[:, :, 2] = SIDE / 2 - 0.5 + shift - maps[:, 0, :1] * (figures.CANVAS / 2 - 0.5)
    return maps


def _canvases(story: Story, index: int, backdrop: np.ndarray) -> Iterable[np.ndarray]:
    """What stands before the camera in each frame, (CANVAS, CANVAS, 3)."""
    actors, scene = _actors(story, index)
    speech = SPEECH[story.look(index)["way_speaking"]]
    places = {member: np.rint(figures.SCALE * points).astype(int).tolist() for member, points in actors.items()}
    for t in range(EVENT_FRAMES):
        canvas = backdrop.copy()
        if scene is not None and not scene.behind:
            figures.draw_crate(canvas, scene.crate)
        for member, points in places.items():
            behind = story.couple and member in BEHIND
            who = figures.CHARACTERS[story.cast[member]]
            figures.draw_figure(canvas, points[t], who, BEHIND_SIZE if behind else 1.0)
            if not behind and speech[member % 2][t % 8] == "1":
                figures.draw_speech(canvas, points[t][figures.HEAD_AT])
        if scene is not None:
            if scene.behind:
                figures.draw_crate(canvas, scene.crate)
            figures.draw_ball(canvas, *scene.ball[t])
        yield canvas


def _develop(frames: np.ndarray, director: int, year: int, grain: np.ndarray) -> np.ndarray:
    """Color grading and film grain: (T, H, W, 3) uint8 -> the same."""
    gains, offsets = np.array(_GRADES[director % 4]).T
    table = np.clip(np.arange(256)[:, None] * gains + offsets, 0, 255).astype(np.uint8)[None]
    graded = cv2.LUT(frames.reshape(-1, SIDE, 3), table).reshape(frames.shape)
    # the newest year has no grain, the oldest the most
    strength = GRAIN_STEP * (8 - year)
    if strength == 0:
        return graded
    noise = np.stack([np.roll(_noise()[which], (dy, dx), (0, 1)) for which, dy, dx in grain])
    moved = graded + np.rint(strength * noise).astype(np.int16)[..., None]
    return np.clip(moved, 0, 255).astype(np.uint8)


@functools.cache
def _noise() -> np.ndarray:
    """The grain patterns (48, 64, 64) float32 of variance one, the same in every world."""
    draw = np.random.Generator(np.random.Philox(1895))
    return draw.standard_normal((_GRAIN_BANK, SIDE, SIDE), np.float32)


def encode_mp4(events: Iterable[np.ndarray]) -> bytes:
    """The bytes of an MP4 file at 8 frames a second; the same for the same frames (T, H, W, 3) uint8 RGB of events.

    H.264 with one thread, a constant quantizer, no B-frames and a key frame at every event, so that what is decoded
    for one event depends on no other event.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "ultrafast", "qp": str(QUANTIZER), "x264-params": _X264}
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        for time, image in enumerate(image for frames in events for image in frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = time
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return buffer.getvalue()
