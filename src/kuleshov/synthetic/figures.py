"""Drawing people: from poses to points, from points to a few filled shapes on a canvas."""

import cv2
import numpy as np

from kuleshov.synthetic.cast import Character
from kuleshov.synthetic.counts import SIDE
from kuleshov.synthetic.motions import Pose

# the canvas is drawn at twice the frame's size, which smooths edges and leaves room for the camera
SCALE = 2
CANVAS = SCALE * SIDE
GROUND = 59.0
# heights over the feet, in frame pixels, of a figure of scale 1
HIP, SHOULDER, HEAD = 12.0, 21.0, 26.0
CENTRE, FLAT = 14.0, 4.0
ARM, LEG, HEM = 11.5, 12.0, 6.5
# rows of the point table
HEAD_AT, SHOULDER_AT, HIP_AT, FRONT_HAND, BACK_HAND, FRONT_FOOT, BACK_FOOT, LEFT_HEM, RIGHT_HEM = range(9)


def body_points(pose: Pose, scale: float, ground: float) -> np.ndarray:
    """Where a figure's joints are: (T, 9, 2) in frame pixels, y downwards.

    Args:
        pose: the figure over T frames.
        scale: its size.
        ground: y of the floor under it.
    """
    zero = np.zeros_like(pose.x)
    tall = 1 - pose.crouch
    side = pose.facing

    def limb(root: float, length: float, angle: np.ndarray) -> np.ndarray:
        return np.stack([side * length * np.sin(angle), root * tall - length * np.cos(angle) * tall], -1)

    local = np.stack(
        [
            np.stack([zero, HEAD * tall], -1),
            np.stack([zero, SHOULDER * tall], -1),
            np.stack([zero, HIP * tall], -1),
            limb(SHOULDER - 1.0, ARM, pose.front),
            limb(SHOULDER - 1.0, ARM, pose.back),
            limb(HIP, LEG, pose.stride),
            limb(HIP, LEG, -pose.stride),
            np.stack([zero - HEM, 4.0 * tall], -1),
            np.stack([zero + HEM, 4.0 * tall], -1),
        ],
        axis=1,
    )  # (T, 9, 2), y upwards from the feet
    local[..., 1] -= CENTRE
    sin, cos = np.sin(pose.tilt)[:, None], np.cos(pose.tilt)[:, None]
    turned_x = local[..., 0] * cos + local[..., 1] * sin
    turned_y = -local[..., 0] * sin + local[..., 1] * cos
    height = CENTRE * np.abs(cos) + FLAT * np.abs(sin)
    x = pose.x[:, None] + scale * turned_x
    y = ground - pose.lift[:, None] - scale * (turned_y + height)
    return np.stack([x, y], -1)


def draw_figure(canvas: np.ndarray, points: list, who: Character) -> None:
    """Draw one figure on an RGB canvas.

    Args:
        canvas: (CANVAS, CANVAS, 3) uint8, changed in place.
        points: nine [x, y] in canvas pixels, integers.
        who: colours and shape.
    """
    limb, thick = 6, 13
    sleeve = who.skin if who.legs == who.skin else who.cloth
    cv2.line(canvas, points[SHOULDER_AT], points[BACK_HAND], sleeve, limb)
    cv2.line(canvas, points[HIP_AT], points[BACK_FOOT], who.legs, limb)
    cv2.line(canvas, points[HIP_AT], points[FRONT_FOOT], who.legs, limb)
    cv2.line(canvas, points[SHOULDER_AT], points[HIP_AT], who.cloth, thick)
    if who.dress:
        hull = np.array([points[SHOULDER_AT], points[LEFT_HEM], points[RIGHT_HEM]], np.int32)
        cv2.fillConvexPoly(canvas, hull, who.cloth)
    cv2.circle(canvas, points[HEAD_AT], 9, who.hair, -1)
    face = points[HEAD_AT]
    cv2.circle(canvas, (face[0], face[1] + 2), 7, who.skin, -1)
    cv2.line(canvas, points[SHOULDER_AT], points[FRONT_HAND], sleeve, limb)
    cv2.circle(canvas, points[FRONT_HAND], 3, who.skin, -1)


def draw_speech(canvas: np.ndarray, head: list) -> None:
    """Draw the small bubble of somebody who speaks, over a head at [x, y] (canvas pixels)."""
    cv2.circle(canvas, (head[0] + 8, head[1] - 14), 3, (214, 214, 214), -1)


def draw_ball(canvas: np.ndarray, x: float, height: float) -> None:
    """Draw the ball; x and height over the ground in frame pixels."""
    centre = (round(SCALE * x), round(SCALE * (GROUND + 1 - height)))
    cv2.circle(canvas, centre, 8, (90, 30, 20), -1)
    cv2.circle(canvas, centre, 7, (236, 96, 60), -1)


def draw_crate(canvas: np.ndarray, x: float) -> None:
    """Draw the crate that stands at x (frame pixels)."""
    left, right = round(SCALE * (x - 8.5)), round(SCALE * (x + 8.5))
    top, bottom = round(SCALE * (GROUND - 17)), round(SCALE * (GROUND + 1))
    cv2.rectangle(canvas, (left, top), (right, bottom), (118, 110, 100), -1)
    cv2.rectangle(canvas, (left, top), (right, bottom), (92, 86, 78), 2)


def canvas_points(points: np.ndarray) -> np.ndarray:
    """Canvas integers (T, 9, 2) of body points in frame pixels."""
    return np.rint(SCALE * points).astype(np.int32)
