"""Six scenes as quiet backgrounds: the place shows in shapes, not in bright colors."""

import cv2
import numpy as np

from kuleshov.synthetic.figures import CANVAS

SCENES = ("office", "airport", "school", "hotel", "prison", "restaurant")
FLOOR = 88  # canvas row where the floor begins
# one dull wall and floor for all; what a place is shows in its shapes, not in bright areas
WALL, GROUND, DARK, LIGHT = (104, 106, 110), (86, 86, 88), (84, 86, 92), (124, 124, 124)


def backdrop(scene: int, draw: np.random.Generator) -> np.ndarray:
    """The empty scene as an RGB canvas (CANVAS, CANVAS, 3) uint8.

    Args:
        scene: index into `SCENES`.
        draw: where the furniture stands is drawn from it.
    """
    canvas = np.empty((CANVAS, CANVAS, 3), np.uint8)
    shade = int(draw.integers(-6, 7))
    canvas[:FLOOR] = np.clip(np.array(WALL) + shade, 0, 255)
    canvas[FLOOR:] = np.clip(np.array(GROUND) + shade, 0, 255)
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
