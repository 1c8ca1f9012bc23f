"""How each verb moves: pure arithmetic from a time axis to the poses of agent, patient and ball.

T = 16 frames make an event. Lengths are in pixels of the 64-pixel frame, angles in radians. Every motion is written
from left to right; mirroring comes afterwards. All verbs share the same distribution of starting places.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EVENT_SECONDS, FPS, SIDE = 2, 8, 64
EVENT_FRAMES = EVENT_SECONDS * FPS
TURN = 2 * np.pi
NEAR = 10.0  # distance of the two centers when they touch


@dataclass
class Pose:
    """A character over time, every field (T,): place, height over the ground, and limb angles."""

    x: np.ndarray
    lift: np.ndarray
    tilt: np.ndarray
    front: np.ndarray
    back: np.ndarray
    stride: np.ndarray
    crouch: np.ndarray
    facing: np.ndarray

    @classmethod
    def standing(cls, x: float, facing: float) -> "Pose":
        """A figure that stands at x, arms down, looking right (1) or left (-1)."""
        zero = np.zeros(EVENT_FRAMES)
        return cls(zero + x, zero, zero, zero + 0.25, zero - 0.25, zero + 0.18, zero, zero + facing)


@dataclass
class Scene:
    """What moves in one event: agent, patient, the ball (T, 2: x and height), and the crate's x."""

    agent: Pose
    patient: Pose
    ball: np.ndarray
    crate: float
    behind: bool = False


def ramp(u: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before start, 1 after end, smooth between (T,)."""
    s = np.clip((u - start) / (end - start), 0, 1)
    return s * s * (3 - 2 * s)


def blend(start: np.ndarray, target: np.ndarray | float, share: np.ndarray) -> np.ndarray:
    """From `start`, where the share is 0, to `target`, where it is 1."""
    return start + (target - start) * share


def walk(pose: Pose, pace: float, u: np.ndarray, when: np.ndarray | float = 1.0) -> None:
    """Let legs and arms swing `pace` times over the event, where `when` is 1."""
    swing = np.sin(TURN * pace * u) * when
    pose.stride = pose.stride * (1 - when) + 0.75 * swing
    pose.front = pose.front + 0.7 * swing
    pose.back = pose.back - 0.7 * swing


def bounce(track: np.ndarray, low: float = 9.0, high: float = 55.0) -> tuple[np.ndarray, np.ndarray]:
    """A straight track folded between two walls: places (T,) and directions (T,)."""
    span = high - low
    phase = np.mod(track - low, 2 * span)
    return low + np.where(phase < span, phase, 2 * span - phase), np.where(phase < span, 1.0, -1.0)


def _chase(u: np.ndarray, s: Scene) -> None:
    for pose, ahead in ((s.agent, 0.0), (s.patient, 22.0)):
        pose.x, pose.facing = bounce(s.agent.x[0] + ahead + 92 * u)
        walk(pose, 5, u)
        pose.lift = 3.0 * np.abs(np.sin(TURN * 5 * u))
        pose.tilt = 0.25 * pose.facing


def _fall(u: np.ndarray, s: Scene) -> None:
    down = ramp(u, 0.3, 0.55)
    s.agent.x = s.agent.x + 6 * ramp(u, 0, 0.35) + 7 * down
    walk(s.agent, 3, u, 1 - down)
    s.agent.tilt = np.pi / 2 * down
    s.agent.front = s.agent.front + 2.6 * ramp(u, 0.25, 0.4)
    s.agent.back = s.agent.back + 2.2 * ramp(u, 0.25, 0.4)


def _crawl(u: np.ndarray, s: Scene) -> None:
    s.agent.x, s.agent.facing = bounce(s.agent.x + 44 * ramp(u, 0.05, 1.2))
    s.agent.tilt = 1.35 * s.agent.facing * (0.6 + 0.4 * ramp(u, 0, 0.15))
    swing = np.sin(TURN * 3 * u)
    s.agent.front, s.agent.back = 1.5 + 0.9 * swing, 1.5 - 0.9 * swing
    s.agent.stride = 0.9 * swing


def _hide(u: np.ndarray, s: Scene) -> None:
    s.behind = True
    gone = ramp(u, 0.45, 0.7)
    s.agent.facing = np.where(u < 0.45, np.sign(s.crate - s.agent.x) + (s.agent.x == s.crate), -1.0)
    s.agent.x = blend(s.agent.x, s.crate, ramp(u, 0.05, 0.5))
    walk(s.agent, 4, u, 1 - gone)
    s.agent.crouch = 0.55 * gone


def _enter(u: np.ndarray, s: Scene) -> None:
    there = ramp(u, 0.85, 0.95)
    s.agent.x = -12 + (s.agent.x + 16) * np.clip(u / 0.9, 0, 1)
    walk(s.agent, 4, u, 1 - there)


def _wave(u: np.ndarray, s: Scene) -> None:
    up = ramp(u, 0, 0.15)
    swing = np.sin(TURN * 4 * u)
    s.agent.front = up * (np.pi - 0.25 + 0.75 * swing)
    s.agent.back = up * (np.pi + 0.25 + 0.75 * swing)
    s.agent.tilt = 0.08 * swing


def _hug(u: np.ndarray, s: Scene) -> None:
    close = ramp(u, 0.0, 0.45)
    middle = (s.agent.x + s.patient.x) / 2
    sway = 0.16 * np.sin(TURN * 2 * u) * ramp(u, 0.45, 0.55)
    for pose, side in ((s.agent, -1), (s.patient, 1)):
        pose.x = blend(pose.x, middle + side * 4.0, close)
        walk(pose, 3, u, 1 - close)
        pose.front = blend(pose.front, 1.55, close)
        pose.back = blend(pose.back, 1.25, close)
        pose.tilt = sway
        pose.x = pose.x + 22 * sway


def _dance(u: np.ndarray, s: Scene) -> None:
    beat = TURN * 3 * u
    for pose, side in ((s.agent, 1), (s.patient, -1)):
        pose.x = pose.x + side * 7 * np.sin(beat / 1.5)
        pose.lift = 7 * np.abs(np.sin(beat))
        pose.tilt = 0.3 * side * np.sin(beat / 1.5)
        pose.front = 1.6 + 1.3 * np.sin(beat)
        pose.back = -1.6 + 1.3 * np.sin(beat)
        pose.stride = 0.5 * np.sin(beat)


def _push(u: np.ndarray, s: Scene) -> None:
    met, raised = ramp(u, 0.05, 0.42), ramp(u, 0.3, 0.45)
    s.agent.x = blend(s.agent.x, s.patient.x - NEAR, met) + 5 * ramp(u, 0.42, 0.55)
    walk(s.agent, 3, u, 1 - met)
    s.agent.front = blend(s.agent.front, 1.6, raised)
    s.agent.back = blend(s.agent.back, 1.45, raised)
    s.agent.tilt = 0.3 * raised
    slid = np.clip((u - 0.45) / 0.5, 0, 1)
    s.patient.x = blend(s.patient.x, 64, 1 - (1 - slid) ** 2)
    s.patient.tilt = 0.35 * np.sin(np.pi * slid)
    s.patient.front = s.patient.front + 1.5 * np.sin(np.pi * slid)


def _hit(u: np.ndarray, s: Scene) -> None:
    met = ramp(u, 0.0, 0.25)
    blow = np.clip(np.sin(TURN * 4 * u - 0.5), 0, 1) * ramp(u, 0.2, 0.28)
    s.agent.x = blend(s.agent.x, s.patient.x - NEAR - 5, met) + 7 * blow
    walk(s.agent, 2, u, 1 - met)
    s.agent.front = s.agent.front * (1 - met) + met * (2.4 - 0.9 * blow) - 1.2 * met * (1 - blow)
    s.agent.tilt = 0.3 * blow
    s.patient.x = s.patient.x + 5 * blow + 4 * ramp(u, 0.3, 1)
    s.patient.tilt = 0.5 * blow


def _knock(u: np.ndarray, s: Scene) -> None:
    run = np.clip(u / 0.35, 0, 1)
    s.agent.x = blend(s.agent.x, s.patient.x - NEAR + 5, run)
    walk(s.agent, 5, u, 1 - ramp(u, 0.33, 0.42))
    s.agent.tilt = 0.45 * ramp(u, 0.1, 0.3) * (1 - ramp(u, 0.5, 0.7))
    down = ramp(u, 0.35, 0.55)
    s.patient.tilt = np.pi / 2 * down
    s.patient.x = s.patient.x + 9 * down
    s.patient.front = s.patient.front + 2.2 * down
    s.patient.back = s.patient.back + 2.5 * down


def _leave(u: np.ndarray, s: Scene) -> None:
    go = np.clip((u - 0.12) / 0.85, 0, 1)
    s.agent.facing = np.where(u < 0.1, 1.0, -1.0)
    s.agent.x = blend(s.agent.x, -14, go)
    walk(s.agent, 4, u, ramp(u, 0.08, 0.14))


def _throw(u: np.ndarray, s: Scene) -> None:
    wind, release = ramp(u, 0.05, 0.25), ramp(u, 0.27, 0.36)
    s.agent.front = 0.25 + 2.9 * wind - 1.7 * release
    s.agent.back = s.agent.back - 0.7 * wind + 1.2 * release
    s.agent.tilt = -0.3 * wind + 0.65 * release - 0.35 * ramp(u, 0.5, 0.7)
    fly = np.clip((u - 0.32) / 0.36, 0, 1)
    hand = np.stack([s.agent.x - 1 - 5 * wind, 13 + 13 * wind], -1)
    arc_x = blend(hand[:, 0], s.patient.x, fly)
    after = np.clip((u - 0.68) / 0.3, 0, 1)
    arc_y = 26 - 8 * fly + 44 * fly * (1 - fly) - 14 * after
    s.ball = np.where((fly > 0)[:, None], np.stack([arc_x - 10 * after, arc_y], -1), hand)
    s.patient.tilt = 0.35 * ramp(u, 0.66, 0.72) * (1 - ramp(u, 0.8, 0.95))


def _jump(u: np.ndarray, s: Scene) -> None:
    hop = np.abs(np.sin(np.pi * 3 * u))
    s.agent.lift = 22 * hop
    s.agent.front, s.agent.back = 0.4 + 2.3 * hop, -0.4 - 2.3 * hop
    s.agent.stride = 0.2 + 0.5 * hop


def _spin(u: np.ndarray, s: Scene) -> None:
    s.agent.tilt = TURN * 2 * ramp(u, -0.3, 1.1)
    s.agent.tilt = s.agent.tilt - s.agent.tilt[0]
    s.agent.x = s.agent.x + 10 * u
    s.agent.lift = 6 * np.sin(np.pi * u)
    s.agent.front, s.agent.back = 2.4 + 0 * u, -2.4 + 0 * u
    s.agent.stride = 0.6 + 0 * u


def _give(u: np.ndarray, s: Scene) -> None:
    met, away = ramp(u, 0.0, 0.42), np.clip((u - 0.58) / 0.42, 0, 1)
    s.agent.x = blend(s.agent.x, s.patient.x - NEAR - 7, met)
    walk(s.agent, 3, u, 1 - met)
    s.agent.front = 1.5 - 1.3 * ramp(u, 0.55, 0.65)
    s.patient.facing = np.where(u < 0.58, -1.0, 1.0)
    taken = ramp(u, 0.42, 0.55)
    s.patient.front = blend(s.patient.front, 1.5, ramp(u, 0.3, 0.45))
    walk(s.patient, 3, u, (away > 0).astype(float))
    s.patient.x = blend(s.patient.x, 66, away)
    s.patient.front = np.where(away > 0, 1.5, s.patient.front)
    carried = np.stack([s.agent.x + 8.5, np.full_like(u, 17.0)], -1)
    held = np.stack([s.patient.x + 8.0 * s.patient.facing, np.full_like(u, 17.0)], -1)
    s.ball = blend(carried, held, taken[:, None])


MOTIONS: dict[str, Callable[[np.ndarray, Scene], None]] = {
    motion.__name__.removeprefix("_"): motion
    for motion in (
        *(_chase, _fall, _crawl, _hide, _enter, _wave, _hug, _dance),
        *(_push, _hit, _knock, _leave, _throw, _jump, _spin, _give),
    )
}


def idle_sway(draw: np.random.Generator) -> np.ndarray:
    """The tilt (T,) of somebody who stands and waits."""
    return 0.05 * np.sin(TURN * (2 * np.arange(EVENT_FRAMES) / EVENT_FRAMES + draw.random()))


def choreograph(verb: str, draw: np.random.Generator, speed: int, place: int, mirrored: bool) -> Scene:
    """The motion of one on-screen event; every verb draws the same numbers from the event's generator.

    Args:
        verb: a key of `MOTIONS`.
        draw: the event's generator.
        speed: 0 slow, 1 plain, 2 quick.
        place: where the pair starts: 0 left, 1 middle, 2 right.
        mirrored: left and right change places, so that the agent comes from the right.
    """
    delay, jitter = draw.uniform(0, 0.06), draw.uniform(-0.05, 0.05)
    gap, shift, crate = draw.uniform(24, 30), draw.uniform(-2, 2), draw.uniform(12, 52)
    ball = np.array([draw.uniform(6, 58), 3.5])
    rate = (0.9, 1.0, 1.12)[speed] + jitter
    u = np.clip((np.arange(EVENT_FRAMES) / (EVENT_FRAMES - 1) - delay) * rate / (1 - delay), 0, 1.0)
    center = (28, 32, 36)[2 - place if mirrored else place] + shift
    agent, patient = Pose.standing(center - gap / 2, 1.0), Pose.standing(center + gap / 2, -1.0)
    scene = Scene(agent, patient, np.repeat(ball[None], EVENT_FRAMES, 0), crate)
    patient.tilt = patient.tilt + idle_sway(draw)
    MOTIONS[verb](u, scene)
    if mirrored:
        for pose in (agent, patient):
            pose.x, pose.tilt, pose.facing = SIDE - pose.x, -pose.tilt, -pose.facing
        scene.ball, scene.crate = scene.ball * [-1, 1] + [SIDE, 0], SIDE - crate
    return scene
