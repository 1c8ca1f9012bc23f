"""The ceiling: what a perfect observer of the screen can know of five events, and no more.

It knows the grammar and the verb of every event on screen; of events off screen, of the writer and the genre it knows
nothing but what follows. Posteriors are exact: forward-backward over each of the sixteen (writer, genre) chains, mixed
by how well each explains what was seen.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kuleshov.synthetic.grammar import GENRES, RELATIONS, VERB_IDS, WRITERS, Grammar, grammar, relation
from kuleshov.synthetic.truth import read_segments

RANKED = 5
RELATED = (0, 1, 3, 4)
# the official file gives a relation once for each of the three annotators that are read
RELATION_PLACES = 3


@functools.cache
def styles() -> tuple[Grammar, ...]:
    """The chains of all writers and genres, each as likely as any other."""
    return tuple(grammar(writer, genre) for writer in range(WRITERS) for genre in range(GENRES))


def pair_posteriors(seen: Sequence[int | None], chains: Sequence[Grammar], first: int, second: int) -> np.ndarray:
    """P(style, verb of event `first`, verb of event `second` | what was seen), (S, V, V).

    Args:
        seen: the verb of each event, None where it is off screen.
        chains: the styles, equally likely beforehand.
        first: index of the earlier event.
        second: index of the later one, greater than `first`.
    """
    joint = []
    for chain in chains:
        ahead, back = _passes(seen, chain)
        between = np.diag(ahead[first])
        for verb in seen[first + 1 : second + 1]:
            between = (between @ chain.transition) * _mask(verb, len(chain.start))
        joint.append(between * back[second])
    table = np.array(joint)
    return table / table.sum()


def verb_posteriors(seen: Sequence[int | None], chains: Sequence[Grammar]) -> np.ndarray:
    """P(verb of each event | what was seen), (N, V); arguments as above."""
    # each row of each product sums to the chain's likelihood of what was seen, so their sum mixes the chains
    table = sum(ahead * back for ahead, back in (_passes(seen, chain) for chain in chains))
    return table / table.sum(1, keepdims=True)


def _passes(seen: Sequence[int | None], chain: Grammar) -> tuple[np.ndarray, np.ndarray]:
    """Forward and backward probabilities (N, V) of one chain."""
    masks = [_mask(verb, len(chain.start)) for verb in seen]
    ahead, back = [chain.start * masks[0]], [np.ones(len(chain.start))]
    for mask in masks[1:]:
        ahead.append((ahead[-1] @ chain.transition) * mask)
    for mask in masks[:0:-1]:
        back.append(chain.transition @ (mask * back[-1]))
    return np.array(ahead), np.array(back[::-1])


def relation_posteriors(seen: Sequence[int | None], chains: Sequence[Grammar]) -> np.ndarray:
    """P(relation to the third event | what was seen) of events 1, 2, 4 and 5, (4, R)."""
    rows = []
    for index in RELATED:
        first, second = sorted((index, 2))
        row = np.zeros(len(RELATIONS))
        for chain, table in zip(chains, pair_posteriors(seen, chains, first, second), strict=True):
            kinds = _relation_table(chain.successors, second - first)
            row += np.bincount(kinds.ravel(), weights=table.ravel(), minlength=len(RELATIONS))
        rows.append(row)
    return np.array(rows)


def predict(root: Path, split: str = "valid") -> tuple[list[dict], list[dict]]:
    """The ceiling's predictions of verbs and relations for a split of a world, in VidSitu's official structures."""
    verbs, relations = [], []
    for number, segment in enumerate(read_segments(root, split)):
        chance = verb_posteriors(segment.seen, styles())
        ranked = np.argsort(-chance, axis=1, kind="stable")[:, :RANKED]
        named = [[VERB_IDS[verb] for verb in row] for row in ranked]
        scores = np.take_along_axis(chance, ranked, 1).round(6).tolist()
        verbs.append({"ann_idx": number, "pred_vbs_ev": named, "pred_scores_ev": scores})
        related = relation_posteriors(segment.seen, styles())
        named = [[RELATIONS[row.argmax()]] * RELATION_PLACES for row in related]
        scores = [[round(float(row.max()), 6)] * RELATION_PLACES for row in related]
        relations.append({"ann_idx": number, "pred_evrels_ev": named, "pred_scores_ev": scores})
    return verbs, relations


@functools.cache
def _relation_table(after: tuple[int, ...], distance: int) -> np.ndarray:
    verbs = range(len(after))
    return np.array([[relation(a, b, distance, after) for b in verbs] for a in verbs])


def _mask(verb: int | None, verbs: int) -> np.ndarray:
    return np.ones(verbs) if verb is None else np.eye(verbs)[verb]
