"""Six scenes as quiet backgrounds: shapes that tell the place, colours that do not shout."""

import cv2
import numpy as np

from kuleshov.world.figures import CANVAS

SCENES = ("office", "airport", "school", "hotel", "prison", "restaurant")
FLOOR = 88  # canvas row where the floor begins
_WALL = ((176, 178, 184), (186, 192, 200), (188, 186, 170), (190, 176, 168), (158, 160, 160), (186, 168, 152))
_GROUND = (
    (132, 130, 128),
    (150, 152, 156),
    (146, 134, 114),
    (140, 118, 112),
    (122, 124, 124),
    (134, 112, 98),
)


def backdrop(scene: int, draw: np.random.Generator) -> np.ndarray:
    """The empty scene as an RGB canvas (CANVAS, CANVAS, 3) uint8.

    Args:
        scene: index into `SCENES`.
        draw: where the furniture stands is drawn from it.
    """
    canvas = np.empty((CANVAS, CANVAS, 3), np.uint8)
    shade = int(draw.integers(-8, 9))
    canvas[:FLOOR] = np.clip(np.array(_WALL[scene]) + shade, 0, 255)
    canvas[FLOOR:] = np.clip(np.array(_GROUND[scene]) + shade, 0, 255)
    offset = int(draw.integers(-14, 15))
    (_office, _airport, _school, _hotel, _prison, _restaurant)[scene](canvas, offset)
    return canvas


def _box(canvas: np.ndarray, left: int, top: int, right: int, bottom: int, color: tuple) -> None:
    cv2.rectangle(canvas, (left, top), (right, bottom), color, -1)


def _office(canvas: np.ndarray, offset: int) -> None:
    for column in range(3):
        for row in range(2):
            left, top = 14 + offset + 34 * column, 12 + 26 * row
            _box(canvas, left, top, left + 24, top + 18, (150, 164, 180))
    _box(canvas, 60 - offset, 70, 112 - offset, 75, (120, 104, 88))
    _box(canvas, 64 - offset, 75, 68 - offset, FLOOR, (120, 104, 88))
    _box(canvas, 104 - offset, 75, 108 - offset, FLOOR, (120, 104, 88))


def _airport(canvas: np.ndarray, offset: int) -> None:
    _box(canvas, 0, 14, CANVAS, 60, (164, 186, 206))
    plane = np.array([[20, 48], [84, 42], [100, 24], [106, 24], [102, 44], [96, 50]]) + [offset, 0]
    cv2.fillPoly(canvas, [plane.astype(np.int32)], (204, 208, 212))
    for column in range(0, CANVAS, 32):
        _box(canvas, column, 14, column + 2, 60, (140, 146, 152))


def _school(canvas: np.ndarray, offset: int) -> None:
    _box(canvas, 26 + offset, 14, 102 + offset, 54, (112, 92, 70))
    _box(canvas, 30 + offset, 18, 98 + offset, 50, (92, 116, 102))
    for row in range(3):
        cv2.line(
            canvas, (38 + offset, 26 + 8 * row), (70 + offset + 8 * row, 26 + 8 * row), (168, 180, 172), 1
        )


def _hotel(canvas: np.ndarray, offset: int) -> None:
    for column in range(4, CANVAS, 12):
        _box(canvas, column, 0, column + 3, FLOOR, (182, 164, 156))
    _box(canvas, 58 + offset, 66, 118 + offset, FLOOR + 4, (168, 150, 150))
    _box(canvas, 58 + offset, 60, 74 + offset, 70, (204, 200, 196))
    cv2.circle(canvas, (28 + offset, 46), 11, (206, 194, 150), -1)
    _box(canvas, 27 + offset, 56, 29 + offset, FLOOR, (110, 96, 84))


def _prison(canvas: np.ndarray, offset: int) -> None:
    for column in range(-8 + offset % 16, CANVAS, 16):
        _box(canvas, column, 0, column + 4, FLOOR, (116, 120, 122))
    _box(canvas, 0, 30, CANVAS, 34, (116, 120, 122))


def _restaurant(canvas: np.ndarray, offset: int) -> None:
    for centre in (26, 96):
        cv2.ellipse(canvas, (centre + offset, 74), (22, 7), 0, 0, 360, (200, 190, 178), -1)
        _box(canvas, centre + offset - 2, 78, centre + offset + 2, FLOOR + 6, (112, 94, 80))
    for centre in (20, 62, 104):
        cv2.circle(canvas, (centre - offset, 20), 8, (204, 186, 140), -1)
