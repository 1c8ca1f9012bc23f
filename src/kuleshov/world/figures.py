"""Drawing people: from poses to points, from points to a few filled shapes on a canvas."""

import cv2
import numpy as np

from kuleshov.world.cast import Character
from kuleshov.world.counts import SIDE
from kuleshov.world.motions import Pose

# the canvas is drawn at twice the frame's size, which smooths edges and leaves room for the camera
SCALE = 2
CANVAS = SCALE * SIDE
GROUND = 54.0
# heights over the feet, in frame pixels, of a figure of scale 1
HIP, SHOULDER, HEAD, TOP = 8.0, 14.0, 17.2, 20.5
CENTRE, FLAT = 9.0, 2.6
ARM, LEG, HEM = 7.5, 8.0, 4.2
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
            limb(SHOULDER - 0.7, ARM, pose.front),
            limb(SHOULDER - 0.7, ARM, pose.back),
            limb(HIP, LEG, pose.stride),
            limb(HIP, LEG, -pose.stride),
            np.stack([zero - HEM, 2.8 * tall], -1),
            np.stack([zero + HEM, 2.8 * tall], -1),
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
    limb, thick = 4, 8
    sleeve = who.skin if who.legs == who.skin else who.cloth
    cv2.line(canvas, points[SHOULDER_AT], points[BACK_HAND], sleeve, limb)
    cv2.line(canvas, points[HIP_AT], points[BACK_FOOT], who.legs, limb)
    cv2.line(canvas, points[HIP_AT], points[FRONT_FOOT], who.legs, limb)
    cv2.line(canvas, points[SHOULDER_AT], points[HIP_AT], who.cloth, thick)
    if who.dress:
        hull = np.array([points[SHOULDER_AT], points[LEFT_HEM], points[RIGHT_HEM]], np.int32)
        cv2.fillConvexPoly(canvas, hull, who.cloth)
    cv2.circle(canvas, points[HEAD_AT], 6, who.hair, -1)
    face = points[HEAD_AT]
    cv2.circle(canvas, (face[0], face[1] + 1), 5, who.skin, -1)
    cv2.line(canvas, points[SHOULDER_AT], points[FRONT_HAND], sleeve, limb)
    cv2.circle(canvas, points[FRONT_HAND], 2, who.skin, -1)


def draw_speech(canvas: np.ndarray, head: list) -> None:
    """Draw the small bubble of somebody who speaks, over a head at [x, y] (canvas pixels)."""
    cv2.circle(canvas, (head[0] + 5, head[1] - 13), 4, (255, 255, 255), -1)


def draw_ball(canvas: np.ndarray, x: float, height: float) -> None:
    """Draw the ball; x and height over the ground in frame pixels."""
    centre = (round(SCALE * x), round(SCALE * (GROUND + 1 - height)))
    cv2.circle(canvas, centre, 6, (90, 30, 20), -1)
    cv2.circle(canvas, centre, 5, (230, 90, 60), -1)


def draw_crate(canvas: np.ndarray, x: float) -> None:
    """Draw the crate that stands at x (frame pixels)."""
    left, right = round(SCALE * (x - 6.5)), round(SCALE * (x + 6.5))
    top, bottom = round(SCALE * (GROUND - 12)), round(SCALE * (GROUND + 1))
    cv2.rectangle(canvas, (left, top), (right, bottom), (148, 112, 70), -1)
    cv2.rectangle(canvas, (left, top), (right, bottom), (104, 76, 46), 2)


def canvas_points(points: np.ndarray) -> np.ndarray:
    """Canvas integers (T, 9, 2) of body points in frame pixels."""
    return np.rint(SCALE * points).astype(np.int32)
