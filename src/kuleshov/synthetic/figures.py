"""People, things and places: how each looks and is called, where the joints are in a pose, and how they are drawn.

The six places are quiet: what a place is shows in its shapes, not in bright colors.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from kuleshov.synthetic.motions import SIDE, Pose

Color = tuple[int, int, int]
LIGHT_SKIN: Color = (250, 214, 186)
DARK_SKIN: Color = (176, 122, 88)

# the canvas is drawn at twice the frame's size, which smooths edges and leaves room for the camera
SCALE = 2
CANVAS = SCALE * SIDE
GROUND = 59.0
# heights over the feet, in frame pixels, of a figure of scale 1
HIP, SHOULDER, HEAD = 12.0, 21.0, 26.0
CENTER, FLAT = 14.0, 4.0
ARM, LEG, HEM = 11.5, 12.0, 6.5
SCENES = ("office", "airport", "school", "hotel", "prison", "restaurant")
FLOOR = 88  # canvas row where the floor begins
# one dull wall and floor for all
WALL, BOARDS, DARK, LIGHT = (104, 106, 110), (86, 86, 88), (84, 86, 92), (124, 124, 124)
# rows of the point table
HEAD_AT, SHOULDER_AT, HIP_AT, FRONT_HAND, BACK_HAND, FRONT_FOOT, BACK_FOOT, LEFT_HEM, RIGHT_HEM = range(9)


@dataclass(frozen=True)
class Character:
    """One person: words for it, colors (RGB) and shape.

    All clothes are about as bright against the dull scenes; who it is shows in the hue.
    """

    noun: str
    nick: str
    color: str
    garment: str
    cloth: Color
    hair: Color
    skin: Color
    scale: float = 1.0

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the person is called, the plainest first."""
        dressed = f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.garment}"
        return (
            f"{self.noun} in {dressed}",
            f"{self.nick} in {self.color}",
            f"{self.noun} wearing {self.color}",
            f"{self.nick} with {dressed}",
            f"{self.noun} in {self.color}",
        )

    @property
    def dress(self) -> bool:
        """Whether the clothes hang down over bare legs."""
        return self.garment in ("dress", "coat")

    @property
    def legs(self) -> Color:
        """Trousers in a darker shade of the clothes; below a dress, the skin."""
        return self.skin if self.dress else tuple(int(0.7 * part) for part in self.cloth)


CHARACTERS = (
    Character("woman", "lady", "red", "dress", (250, 70, 60), (90, 54, 36), LIGHT_SKIN),
    Character("man", "guy", "blue", "shirt", (84, 140, 255), (60, 44, 34), LIGHT_SKIN, 1.05),
    Character("girl", "child", "green", "dress", (70, 224, 96), (232, 190, 96), LIGHT_SKIN, 0.9),
    Character("boy", "kid", "yellow", "shirt", (255, 236, 70), (50, 42, 40), DARK_SKIN, 0.9),
    Character("man", "guy", "turquoise", "coat", (60, 226, 222), (120, 84, 56), LIGHT_SKIN, 1.05),
    Character("woman", "lady", "white", "suit", (255, 255, 255), (52, 44, 44), DARK_SKIN),
    Character("woman", "lady", "purple", "coat", (206, 96, 250), (236, 214, 170), LIGHT_SKIN),
    Character("man", "guy", "orange", "vest", (255, 160, 50), (54, 48, 46), DARK_SKIN, 1.05),
)


def body_points(pose: Pose, scale: float, ground: float) -> np.ndarray:
    """Where a figure's joints are: (T, 9, 2) in frame pixels, y downwards; `ground` is the floor's y."""
    zero, tall, side = np.zeros_like(pose.x), 1 - pose.crouch, pose.facing

    def limb(root: float, length: float, angle: np.ndarray) -> np.ndarray:
        return np.stack([side * length * np.sin(angle), root * tall - length * np.cos(angle) * tall], -1)

    joints = [np.stack([zero, height * tall], -1) for height in (HEAD, SHOULDER, HIP)]
    joints += [limb(SHOULDER - 1.0, ARM, angle) for angle in (pose.front, pose.back)]
    joints += [limb(HIP, LEG, angle) for angle in (pose.stride, -pose.stride)]
    joints += [np.stack([zero + out, 4.0 * tall], -1) for out in (-HEM, HEM)]
    local = np.stack(joints, axis=1)  # (T, 9, 2), y upwards from the feet
    local[..., 1] -= CENTER
    sin, cos = np.sin(pose.tilt)[:, None], np.cos(pose.tilt)[:, None]
    turned_x = local[..., 0] * cos + local[..., 1] * sin
    turned_y = -local[..., 0] * sin + local[..., 1] * cos
    height = CENTER * np.abs(cos) + FLAT * np.abs(sin)
    x = pose.x[:, None] + scale * turned_x
    y = ground - pose.lift[:, None] - scale * (turned_y + height)
    return np.stack([x, y], -1)


def draw_figure(canvas: np.ndarray, points: list, who: Character, size: float = 1.0) -> None:
    """Draw one figure, given nine [x, y] in canvas pixels, on a canvas (CANVAS, CANVAS, 3) uint8 RGB, in place.

    `size` is that of its lines and its head; the points have theirs.
    """
    limb, thick, hair, face, hand = (max(1, round(size * width)) for width in (6, 13, 9, 7, 3))
    sleeve = who.skin if who.dress else who.cloth
    cv2.line(canvas, points[SHOULDER_AT], points[BACK_HAND], sleeve, limb)
    cv2.line(canvas, points[HIP_AT], points[BACK_FOOT], who.legs, limb)
    cv2.line(canvas, points[HIP_AT], points[FRONT_FOOT], who.legs, limb)
    cv2.line(canvas, points[SHOULDER_AT], points[HIP_AT], who.cloth, thick)
    if who.dress:
        hull = np.array([points[SHOULDER_AT], points[LEFT_HEM], points[RIGHT_HEM]], np.int32)
        cv2.fillConvexPoly(canvas, hull, who.cloth)
    head = points[HEAD_AT]
    cv2.circle(canvas, head, hair, who.hair, -1)
    cv2.circle(canvas, (head[0], head[1] + max(1, round(2 * size))), face, who.skin, -1)
    cv2.line(canvas, points[SHOULDER_AT], points[FRONT_HAND], sleeve, limb)
    cv2.circle(canvas, points[FRONT_HAND], hand, who.skin, -1)


def draw_speech(canvas: np.ndarray, head: list) -> None:
    """Draw the small bubble of somebody who speaks, over a head at [x, y] (canvas pixels)."""
    cv2.circle(canvas, (head[0] + 8, head[1] - 14), 3, (214, 214, 214), -1)


def draw_ball(canvas: np.ndarray, x: float, height: float) -> None:
    """Draw the ball; x and height over the ground in frame pixels."""
    center = (round(SCALE * x), round(SCALE * (GROUND + 1 - height)))
    cv2.circle(canvas, center, 8, (90, 30, 20), -1)
    cv2.circle(canvas, center, 7, (236, 96, 60), -1)


def draw_crate(canvas: np.ndarray, x: float) -> None:
    """Draw the crate that stands at x (frame pixels)."""
    left, right = round(SCALE * (x - 8.5)), round(SCALE * (x + 8.5))
    top, bottom = round(SCALE * (GROUND - 17)), round(SCALE * (GROUND + 1))
    cv2.rectangle(canvas, (left, top), (right, bottom), (118, 110, 100), -1)
    cv2.rectangle(canvas, (left, top), (right, bottom), (92, 86, 78), 2)


def backdrop(scene: int, draw: np.random.Generator) -> np.ndarray:
    """The empty scene as an RGB canvas (CANVAS, CANVAS, 3) uint8.

    Args:
        scene: index into `SCENES`.
        draw: where the furniture stands is drawn from it.
    """
    canvas = np.empty((CANVAS, CANVAS, 3), np.uint8)
    shade = int(draw.integers(-6, 7))
    canvas[:FLOOR] = np.clip(np.array(WALL) + shade, 0, 255)
    canvas[FLOOR:] = np.clip(np.array(BOARDS) + shade, 0, 255)
    offset = int(draw.integers(-14, 15))
    (_office, _airport, _school, _hotel, _prison, _restaurant)[scene](canvas, offset)
    return canvas


def _box(canvas: np.ndarray, left: int, top: int, right: int, bottom: int, color: tuple) -> None:
    cv2.rectangle(canvas, (left, top), (right, bottom), color, -1)


def _office(canvas: np.ndarray, offset: int) -> None:
    for column in range(3):
        for row in range(2):
            left, top = 14 + offset + 34 * column, 12 + 26 * row
            _box(canvas, left, top, left + 24, top + 18, LIGHT)
    _box(canvas, 60 - offset, 70, 112 - offset, 75, DARK)
    _box(canvas, 64 - offset, 75, 68 - offset, FLOOR, DARK)
    _box(canvas, 104 - offset, 75, 108 - offset, FLOOR, DARK)


def _airport(canvas: np.ndarray, offset: int) -> None:
    _box(canvas, 0, 14, CANVAS, 60, LIGHT)
    plane = np.array([[20, 48], [84, 42], [100, 24], [106, 24], [102, 44], [96, 50]]) + [offset, 0]
    cv2.fillPoly(canvas, [plane.astype(np.int32)], DARK)
    for column in range(0, CANVAS, 32):
        _box(canvas, column, 14, column + 2, 60, DARK)


def _school(canvas: np.ndarray, offset: int) -> None:
    _box(canvas, 26 + offset, 14, 102 + offset, 54, DARK)
    _box(canvas, 30 + offset, 18, 98 + offset, 50, (90, 102, 96))
    for row in range(3):
        cv2.line(canvas, (38 + offset, 26 + 8 * row), (70 + offset + 8 * row, 26 + 8 * row), LIGHT, 1)


def _hotel(canvas: np.ndarray, offset: int) -> None:
    for column in range(4, CANVAS, 12):
        _box(canvas, column, 0, column + 3, FLOOR, LIGHT)
    _box(canvas, 58 + offset, 66, 118 + offset, FLOOR + 4, DARK)
    _box(canvas, 58 + offset, 60, 74 + offset, 70, LIGHT)
    cv2.circle(canvas, (28 + offset, 46), 11, LIGHT, -1)
    _box(canvas, 27 + offset, 56, 29 + offset, FLOOR, DARK)


def _prison(canvas: np.ndarray, offset: int) -> None:
    for column in range(-8 + offset % 16, CANVAS, 16):
        _box(canvas, column, 0, column + 4, FLOOR, DARK)
    _box(canvas, 0, 30, CANVAS, 34, DARK)


def _restaurant(canvas: np.ndarray, offset: int) -> None:
    for center in (26, 96):
        cv2.ellipse(canvas, (center + offset, 74), (22, 7), 0, 0, 360, LIGHT, -1)
        _box(canvas, center + offset - 2, 78, center + offset + 2, FLOOR + 6, DARK)
    for center in (20, 62, 104):
        cv2.circle(canvas, (center - offset, 20), 8, LIGHT, -1)
