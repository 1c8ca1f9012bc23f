"""People: how each looks and is called, where the joints are in a pose, and how figures and things are drawn."""

from dataclasses import dataclass

import cv2
import numpy as np

from kuleshov.synthetic.motions import Pose
from kuleshov.synthetic.sizes import SIDE

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
# rows of the point table
HEAD_AT, SHOULDER_AT, HIP_AT, FRONT_HAND, BACK_HAND, FRONT_FOOT, BACK_FOOT, LEFT_HEM, RIGHT_HEM = range(9)


@dataclass(frozen=True)
class Character:
    """One person: phrases (the first is the plainest), colors (RGB) and shape.

    All clothes are about as bright against the dull scenes; who it is shows in the hue.
    """

    phrases: tuple[str, ...]
    cloth: Color
    hair: Color
    skin: Color
    dress: bool
    scale: float = 1.0

    @property
    def legs(self) -> Color:
        """Trousers in a darker shade of the clothes; below a dress, the skin."""
        return self.skin if self.dress else tuple(int(0.7 * part) for part in self.cloth)


def _person(
    noun: str, nick: str, color: str, garment: str, cloth: Color, hair: Color, skin: Color, scale: float = 1.0
) -> Character:
    article = "an" if color[0] in "aeiou" else "a"
    phrases = (
        f"{noun} in {article} {color} {garment}",
        f"{nick} in {color}",
        f"{noun} wearing {color}",
        f"{nick} with {article} {color} {garment}",
        f"{noun} in {color}",
    )
    return Character(phrases, cloth, hair, skin, garment in ("dress", "coat"), scale)


CHARACTERS = (
    _person("woman", "lady", "red", "dress", (250, 70, 60), (90, 54, 36), LIGHT_SKIN),
    _person("man", "guy", "blue", "shirt", (84, 140, 255), (60, 44, 34), LIGHT_SKIN, 1.05),
    _person("girl", "child", "green", "dress", (70, 224, 96), (232, 190, 96), LIGHT_SKIN, 0.9),
    _person("boy", "kid", "yellow", "shirt", (255, 236, 70), (50, 42, 40), DARK_SKIN, 0.9),
    _person("man", "guy", "turquoise", "coat", (60, 226, 222), (120, 84, 56), LIGHT_SKIN, 1.05),
    _person("woman", "lady", "white", "suit", (255, 255, 255), (52, 44, 44), DARK_SKIN),
    _person("woman", "lady", "purple", "coat", (206, 96, 250), (236, 214, 170), LIGHT_SKIN),
    _person("man", "guy", "orange", "vest", (255, 160, 50), (54, 48, 46), DARK_SKIN, 1.05),
)


def body_points(pose: Pose, scale: float, ground: float) -> np.ndarray:
    """Where a figure's joints are: (T, 9, 2) in frame pixels, y downwards; `ground` is the floor's y."""
    zero, tall, side = np.zeros_like(pose.x), 1 - pose.crouch, pose.facing

    def limb(root: float, length: float, angle: np.ndarray) -> np.ndarray:
        return np.stack([side * length * np.sin(angle), root * tall - length * np.cos(angle) * tall], -1)

    local = np.stack(
        [
            *(np.stack([zero, height * tall], -1) for height in (HEAD, SHOULDER, HIP)),
            limb(SHOULDER - 1.0, ARM, pose.front),
            limb(SHOULDER - 1.0, ARM, pose.back),
            limb(HIP, LEG, pose.stride),
            limb(HIP, LEG, -pose.stride),
            np.stack([zero - HEM, 4.0 * tall], -1),
            np.stack([zero + HEM, 4.0 * tall], -1),
        ],
        axis=1,
    )  # (T, 9, 2), y upwards from the feet
    local[..., 1] -= CENTER
    sin, cos = np.sin(pose.tilt)[:, None], np.cos(pose.tilt)[:, None]
    turned_x = local[..., 0] * cos + local[..., 1] * sin
    turned_y = -local[..., 0] * sin + local[..., 1] * cos
    height = CENTER * np.abs(cos) + FLAT * np.abs(sin)
    x = pose.x[:, None] + scale * turned_x
    y = ground - pose.lift[:, None] - scale * (turned_y + height)
    return np.stack([x, y], -1)


def canvas_points(points: np.ndarray) -> np.ndarray:
    """Canvas integers (T, 9, 2) of body points in frame pixels."""
    return np.rint(SCALE * points).astype(np.int32)


def draw_figure(canvas: np.ndarray, points: list, who: Character) -> None:
    """Draw one figure, given nine [x, y] in canvas pixels, on a canvas (CANVAS, CANVAS, 3) uint8 RGB, in place."""
    limb, thick = 6, 13
    sleeve = who.skin if who.legs == who.skin else who.cloth
    cv2.line(canvas, points[SHOULDER_AT], points[BACK_HAND], sleeve, limb)
    cv2.line(canvas, points[HIP_AT], points[BACK_FOOT], who.legs, limb)
    cv2.line(canvas, points[HIP_AT], points[FRONT_FOOT], who.legs, limb)
    cv2.line(canvas, points[SHOULDER_AT], points[HIP_AT], who.cloth, thick)
    if who.dress:
        hull = np.array([points[SHOULDER_AT], points[LEFT_HEM], points[RIGHT_HEM]], np.int32)
        cv2.fillConvexPoly(canvas, hull, who.cloth)
    head = points[HEAD_AT]
    cv2.circle(canvas, head, 9, who.hair, -1)
    cv2.circle(canvas, (head[0], head[1] + 2), 7, who.skin, -1)
    cv2.line(canvas, points[SHOULDER_AT], points[FRONT_HAND], sleeve, limb)
    cv2.circle(canvas, points[FRONT_HAND], 3, who.skin, -1)


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
