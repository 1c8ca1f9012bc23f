"""Texts as counts of their 1- to 4-grams, in flat arrays that CIDEr and BLEU share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = 4


@dataclass(frozen=True)
class NgramTable:
    """Every distinct text once; row u holds entries `start[u]:start[u + 1]`.

    Attributes:
        index: text -> row.
        start: int64 (U + 1,).
        ids: int64, n-gram number of each entry.
        counts: int64, occurrences in the text.
        order: int64 (V,), 0 for words up to 3 for 4-grams.
        words: int64 (U,), words in the text.
    """

    index: dict[str, int]
    start: np.ndarray
    ids: np.ndarray
    counts: np.ndarray
    order: np.ndarray
    words: np.ndarray

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Rows (len(texts),) of some texts."""
        return np.fromiter((self.index[text] for text in texts), np.int64, len(texts))

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All entries of some rows: (position in `rows`, n-gram number, count), each (entries,)."""
        sizes = self.start[rows + 1] - self.start[rows]
        position = np.repeat(np.arange(len(rows)), sizes)
        ends = np.cumsum(sizes)
        within = np.arange(len(position)) - np.repeat(ends - sizes, sizes)
        at = np.repeat(self.start[rows], sizes) + within
        return position, self.ids[at], self.counts[at]


def ngram_table(texts: Iterable[str]) -> NgramTable:
    """Count the 1- to 4-grams of each distinct text; words are split at white space, case is kept."""
    numbers: dict[tuple[str, ...], int] = {}
    index: dict[str, int] = {}
    sizes, ids, counts, lengths = [], [], [], []
    for text in texts:
        if text in index:
            continue
        index[text] = len(index)
        words = tuple(text.split())
        found = Counter(words[i : i + n] for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))
        ids.extend(numbers.setdefault(ngram, len(numbers)) for ngram in found)
        counts.extend(found.values())
        sizes.append(len(found))
        lengths.append(len(words))
    order = np.fromiter((len(ngram) - 1 for ngram in numbers), np.int64, len(numbers))
    start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    return NgramTable(
        index, start, np.array(ids, np.int64), np.array(counts, np.int64), order, np.array(lengths, np.int64)
    )


def find_sorted(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of `wanted` in the sorted, distinct `keys`, and which of them are there at all."""
    if len(keys) == 0:
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct keys, and where each begins among the sorted keys."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return keys[first], first
