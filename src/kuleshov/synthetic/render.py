"""Rendering: the frames of one event, and where its characters are in them.

An event off screen is drawn from the movie's style, its scene and a bystander alone. Nothing of the
verb, the agent, the patient or the staging enters its frames, and its random numbers come from a
stream that the story does not share.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from kuleshov.synthetic import figures
from kuleshov.synthetic.cast import CHARACTERS
from kuleshov.synthetic.counts import EVENT_FRAMES, SIDE
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.motions import Pose, Scene, choreograph
from kuleshov.synthetic.scenery import backdrop
from kuleshov.synthetic.story import FRAMES, STAGING, Story, stream

BYSTANDER = 2
# when the two main characters speak, an eighth of two seconds each step; one row a way of speaking
SPEECH = (
    ("11110000", "00000000"),
    ("11001100", "00110011"),
    ("11110000", "00001111"),
    ("11111111", "00000000"),
    ("11001100", "00000000"),
)
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


@dataclass
class Actor:
    """A visible character: index into the cast, and its body points (T, 9, 2) in frame pixels."""

    cast: int
    points: np.ndarray


def event_frames(story: Story, index: int) -> np.ndarray:
    """The frames of one event, (16, 64, 64, 3) uint8 RGB."""
    event = story.events[index]
    draw = stream(story.seed, FRAMES, story.kind, story.number, index)
    cameras = _camera(story.look(index)["director"], draw)
    grain = draw.integers(0, [_GRAIN_BANK, SIDE, SIDE], size=(EVENT_FRAMES, 3))
    scenery = backdrop(event.scene, stream(story.seed, STAGING, story.kind, story.number, event.scene))
    actors, scene = _actors(story, index)
    speech = SPEECH[story.look(index)["way_speaking"]]
    canvases = _draw(story, speech, scenery, actors, scene, cameras)
    look = story.look(index)
    return _develop(canvases, look["director"], look["year"], grain)


def event_boxes(story: Story, index: int) -> dict[int, np.ndarray]:
    """Where each visible character is: cast index -> (16, 4) x1 y1 x2 y2 in pixels.

    Boxes are cut at the frame's edge; a character out of the frame has x1 >= x2.
    """
    draw = stream(story.seed, FRAMES, story.kind, story.number, index)
    cameras = _camera(story.look(index)["director"], draw)
    actors, _ = _actors(story, index)
    result = {}
    for actor in actors:
        low, high = actor.points.min(1) - [2.0, 3.0], actor.points.max(1) + [2.0, 1.0]
        corners = np.stack([low, high], 1) * figures.SCALE  # (T, 2, 2) canvas pixels
        seen = np.einsum("tij,tcj->tci", cameras[:, :, :2], corners) + cameras[:, None, :, 2]
        result[actor.cast] = np.clip(seen.reshape(-1, 4), 0, SIDE)
    return result


def _actors(story: Story, index: int) -> tuple[list[Actor], Scene | None]:
    event = story.events[index]
    if event.off_screen:
        return _bystander(story, index), None
    draw = stream(story.seed, STAGING, story.kind, story.number, 1000 + index)
    scene = choreograph(VERBS[event.verb], EVENT_FRAMES, draw, event.speed, event.place, event.mirrored)
    depths = draw.uniform(-1.0, 2.0, size=2)
    actors = []
    for member, pose, depth in ((event.patient, scene.patient, depths[1]), (event.agent, scene.agent, depths[0])):
        scale = CHARACTERS[story.cast[member]].scale
        actors.append(Actor(member, figures.body_points(pose, scale, figures.GROUND + depth)))
    return actors, scene


def _bystander(story: Story, index: int) -> list[Actor]:
    draw = stream(story.seed, STAGING, story.kind, story.number, 2000 + index)
    if draw.random() < 0.5:
        return []
    pose = Pose.standing(np.full(EVENT_FRAMES, draw.uniform(12, 52)), draw.choice([-1.0, 1.0]))
    sway = np.sin(2 * np.pi * (2 * np.arange(EVENT_FRAMES) / EVENT_FRAMES + draw.random()))
    pose.tilt = pose.tilt + 0.05 * sway
    scale = CHARACTERS[story.cast[BYSTANDER]].scale
    return [Actor(BYSTANDER, figures.body_points(pose, scale, figures.GROUND + draw.uniform(-1, 2)))]


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
    # the middle of the canvas goes to the middle of the frame, plus the shift; pixel centres at +0.5
    maps[:, :, 2] = SIDE / 2 - 0.5 + shift - maps[:, 0, :1] * (figures.CANVAS / 2 - 0.5)
    return maps


def _draw(
    story: Story,
    speech: tuple[str, str],
    scenery: np.ndarray,
    actors: list[Actor],
    scene: Scene | None,
    cameras: np.ndarray,
) -> np.ndarray:
    frames = np.empty((EVENT_FRAMES, SIDE, SIDE, 3), np.uint8)
    places = [figures.canvas_points(actor.points).tolist() for actor in actors]
    behind = scene is not None and scene.behind
    for t in range(EVENT_FRAMES):
        canvas = scenery.copy()
        if scene is not None and not behind:
            figures.draw_crate(canvas, scene.crate)
        for actor, points in zip(actors, places, strict=True):
            figures.draw_figure(canvas, points[t], CHARACTERS[story.cast[actor.cast]])
            if speech[actor.cast % 2][t % 8] == "1":
                figures.draw_speech(canvas, points[t][figures.HEAD_AT])
        if scene is not None:
            if behind:
                figures.draw_crate(canvas, scene.crate)
            figures.draw_ball(canvas, *scene.ball[t])
        cv2.warpAffine(canvas, cameras[t], (SIDE, SIDE), dst=frames[t], borderMode=cv2.BORDER_REFLECT_101)
    return frames


def _develop(frames: np.ndarray, director: int, year: int, grain: np.ndarray) -> np.ndarray:
    """Colour grading and film grain: (T, H, W, 3) uint8 -> the same."""
    graded = cv2.LUT(frames.reshape(-1, SIDE, 3), _grade_table(director % 4)).reshape(frames.shape)
    # the newest year has no grain, the oldest the most
    strength = GRAIN_STEP * (8 - year)
    if strength == 0:
        return graded
    noise = np.stack([np.roll(_noise()[which], (dy, dx), (0, 1)) for which, dy, dx in grain])
    moved = graded + np.rint(strength * noise).astype(np.int16)[..., None]
    return np.clip(moved, 0, 255).astype(np.uint8)


def _grade_table(grade: int) -> np.ndarray:
    levels = np.arange(256)[:, None]
    gains, offsets = np.array(_GRADES[grade]).T
    return np.clip(levels * gains + offsets, 0, 255).astype(np.uint8)[None]


_noise_bank: list[np.ndarray] = []


def _noise() -> np.ndarray:
    """The grain patterns (48, 64, 64) float32 of variance one, the same in every world."""
    if not _noise_bank:
        draw = np.random.Generator(np.random.Philox(1895))
        _noise_bank.append(draw.standard_normal((_GRAIN_BANK, SIDE, SIDE), np.float32))
    return _noise_bank[0]
