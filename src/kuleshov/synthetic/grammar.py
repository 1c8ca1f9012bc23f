"""The story grammar: what happens next, who does it, and how two events are related.

A verb is followed by its favorite successor with probability 0.85, otherwise by a verb drawn from the genre's mix.
The successors form a permutation; a writer swaps the successors of at most four of the sixteen verbs.
"""

from dataclasses import dataclass

import numpy as np

FAVORITE = 0.85

# name, its gloss, and how it relates to its favorite successor
_VERBS = (
    ("chase", "follow, pursue", "Causes"),
    ("fall", "descend to the ground", "Reaction To"),
    ("crawl", "move on hands and knees", "Enables"),
    ("hide", "conceal oneself", "Causes"),
    ("enter", "come in", "Enables"),
    ("wave", "signal with the hand", "Enables"),
    ("hug", "embrace", "Reaction To"),
    ("dance", "move to music", "Causes"),
    ("push", "apply force", "Causes"),
    ("hit", "strike", "Reaction To"),
    ("knock", "knock down", "Causes"),
    ("leave", "go away", "Enables"),
    ("throw", "launch", "Enables"),
    ("jump", "leap", "Reaction To"),
    ("spin", "rotate", "Reaction To"),
    ("give", "hand over", "Enables"),
)
VERBS = tuple(name for name, _, _ in _VERBS)
VERB_NAMES = tuple(f"{name} ({gloss})" for name, gloss, _ in _VERBS)
VERB_IDS = tuple(f"{name}.01" for name in VERBS)
RELATIONS = ("Causes", "Reaction To", "Enables", "NoRel")
RELATION_OF_VERB = tuple(RELATIONS.index(relation) for _, _, relation in _VERBS)
NO_RELATION = RELATIONS.index("NoRel")

WRITERS, GENRES = 4, 4
# the two style bits of a writer: pairs of verbs whose successors change places
WRITER_SWAPS = ((VERBS.index("hide"), VERBS.index("leave")), (VERBS.index("dance"), VERBS.index("give")))
# a genre's jumps prefer one of the four cycles
GENRE_SHARE = 0.5

# who acts in turn under each relationship: A and B, read round and round
TURNS = ("AB", "AAAAAA", "AABB", "AAB")
TURN_BREAK = 0.1


@dataclass(frozen=True)
class Grammar:
    """The verb chain of one writer and genre: transition (V, V) and first-event distribution (V,)."""

    successors: tuple[int, ...]
    transition: np.ndarray
    start: np.ndarray


def successors(writer: int) -> tuple[int, ...]:
    """The favorite successor of each verb (V,) in the hands of a writer (0..3)."""
    # four cycles of four: 0 1 2 3, 4 5 6 7, ...
    after = [4 * (verb // 4) + (verb + 1) % 4 for verb in range(len(VERBS))]
    for bit, (first, second) in enumerate(WRITER_SWAPS):
        if writer >> bit & 1:
            after[first], after[second] = after[second], after[first]
    return tuple(after)


def jumps(genre: int) -> np.ndarray:
    """The distribution (V,) of what happens when the favorite does not, for a genre (0..3)."""
    weights = np.full(len(VERBS), (1 - GENRE_SHARE) / (len(VERBS) - 4))
    weights[4 * genre : 4 * genre + 4] = GENRE_SHARE / 4
    return weights


def grammar(writer: int, genre: int) -> Grammar:
    """The verb chain of a writer and a genre; the first event follows the chain's stationary law."""
    after = successors(writer)
    transition = np.repeat((1 - FAVORITE) * jumps(genre)[None], len(VERBS), axis=0)
    transition[np.arange(len(VERBS)), after] += FAVORITE
    # stationary law: pi (I - P) = 0 with sum 1
    system = np.vstack([(np.eye(len(VERBS)) - transition).T, np.ones(len(VERBS))])
    target = np.append(np.zeros(len(VERBS)), 1.0)
    start = np.linalg.lstsq(system, target, rcond=None)[0].clip(0)
    return Grammar(after, transition, start / start.sum())


def relation(earlier: int, later: int, distance: int, after: tuple[int, ...]) -> int:
    """How the earlier of two events relates to the later one (index into RELATIONS).

    If the later verb is what favorite successors lead to in `distance` steps (1 or 2), the earlier
    verb's own kind of relation holds; otherwise the two are unrelated.
    """
    expected = earlier
    for _ in range(distance):
        expected = after[expected]
    return RELATION_OF_VERB[earlier] if expected == later else NO_RELATION


def describe() -> dict:
    """The whole grammar as plain JSON values, for `truth/grammar.json`."""
    return {
        "verbs": list(VERBS),
        "verb_ids": list(VERB_IDS),
        "favourite_probability": FAVORITE,
        "successors_by_writer": [list(successors(writer)) for writer in range(WRITERS)],
        "jumps_by_genre": [jumps(genre).round(6).tolist() for genre in range(GENRES)],
        "relation_of_verb": [RELATIONS[kind] for kind in RELATION_OF_VERB],
        "turns_by_relationship": list(TURNS),
        "turn_break": TURN_BREAK,
    }
