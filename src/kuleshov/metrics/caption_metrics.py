"""CIDEr, BLEU and ROUGE-L of short texts, as coco-caption computes them for VidSitu.

Nothing is tokenised or lower-cased: CIDEr and BLEU split at white space, ROUGE-L at single blanks, so that
double blanks make empty tokens and "" against "" is a hit. Every figure can be computed inside groups of
items (one verb, one role), document frequencies included; a group of one item has CIDEr 0.

CIDEr: Vedantam et al., CVPR 2015, the CIDEr-D formula with the length penalty on the number of bigrams.
BLEU: Papineni et al., ACL 2002, closest reference length. ROUGE-L: Lin, 2004, beta 1.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.ngrams import ORDERS, NgramTable, distinct, find_sorted, ngram_table

SIGMA = 6.0
BETA = 1.2
CAPTION_FIGURES = ("cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge")


@dataclass(frozen=True)
class Captions:
    """Items of one hypothesis and one or more references each.

    Attributes:
        hypotheses: a text an item.
        references: the item's reference texts, at least one.
    """

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if len(self.hypotheses) != len(self.references):
            raise ValueError(f"{len(self.hypotheses)} hypotheses for {len(self.references)} reference lists")
        if not all(len(texts) > 0 for texts in self.references):
            raise ValueError("an item has no reference")

    @cached_property
    def flat_references(self) -> list[str]:
        """All references, item after item."""
        return [text for texts in self.references for text in texts]

    @cached_property
    def item_of_reference(self) -> np.ndarray:
        """Item (R,) of each entry of `flat_references`."""
        return np.repeat(np.arange(len(self.references)), [len(texts) for texts in self.references])

    @cached_property
    def first_reference(self) -> np.ndarray:
        """Place (I,) of each item's first reference in `flat_references`."""
        sizes = np.array([len(texts) for texts in self.references], np.int64)
        return np.cumsum(sizes) - sizes

    @cached_property
    def table(self) -> NgramTable:
        """N-gram counts of all texts."""
        return ngram_table([*self.hypotheses, *self.flat_references])

    @cached_property
    def hypothesis_rows(self) -> np.ndarray:
        """Rows (I,) of the hypotheses in `table`."""
        return self.table.rows(self.hypotheses)

    @cached_property
    def reference_rows(self) -> np.ndarray:
        """Rows (R,) of `flat_references` in `table`."""
        return self.table.rows(self.flat_references)

    @cached_property
    def hypothesis_entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(item, n-gram, count) sorted by item and n-gram."""
        item, ngram, count = self.table.entries(self.hypothesis_rows)
        rank = np.argsort(item * max(len(self.table.order), 1) + ngram, kind="stable")
        return item[rank], ngram[rank], count[rank]

    @cached_property
    def rouge(self) -> np.ndarray:
        """ROUGE-L (I,) of each item; see `rouge_l`."""
        return _rouge(self.hypotheses, self.references)

    @cached_property
    def matches(self) -> np.ndarray:
        """N-grams (I, 4) of each hypothesis that a reference holds, clipped to the most that one of them holds."""
        return _clipped_matches(self)

    @cached_property
    def reference_entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place in `flat_references`, n-gram, count)."""
        return self.table.entries(self.reference_rows)


def cider(captions: Captions, groups: np.ndarray | None = None) -> np.ndarray:
    """CIDEr-D of each item, float64 (I,), times ten as coco-caption gives it.

    Args:
        captions: the items.
        groups: int64 (I,); document frequencies are counted inside each group. None: one group.

    Raises:
        KuleshovError: no reference of a group holds a word, where coco-caption stops.
    """
    groups = np.zeros(len(captions.hypotheses), np.int64) if groups is None else groups
    item, h_ngram, h_count = captions.hypothesis_entries
    place, r_ngram, r_count = captions.reference_entries
    r_item = captions.item_of_reference[place]
    idf = _inverse_frequencies(captions, groups)
    h_weight = h_count * idf(groups[item], h_ngram)
    r_weight = r_count * idf(groups[r_item], r_ngram)
    items, places = len(captions.hypotheses), len(captions.flat_references)
    h_norm = _sums(captions, item, h_ngram, h_weight**2, items)
    r_norm = _sums(captions, place, r_ngram, r_weight**2, places)

    # an n-gram counts where it stands in both texts of a pair, with the smaller of its two weights
    width = max(len(captions.table.order), 1)
    at, shared = find_sorted(item * width + h_ngram, r_item * width + r_ngram)
    both = np.minimum(h_weight[at[shared]], r_weight[shared]) * r_weight[shared]
    dot = _sums(captions, place[shared], r_ngram[shared], both, places)

    of_pair = captions.item_of_reference
    norms = np.sqrt(h_norm[of_pair]) * np.sqrt(r_norm)
    cosine = np.divide(dot, norms, out=np.zeros_like(dot), where=norms != 0)  # (R, 4)
    bigrams = np.maximum(captions.table.words - 1, 0)
    h_bigrams = bigrams[captions.hypothesis_rows][of_pair]
    delta = h_bigrams - bigrams[captions.reference_rows]
    similarity = cosine.mean(axis=1) * np.exp(-(delta.astype(float) ** 2) / (2 * SIGMA**2))
    return 10.0 * np.bincount(of_pair, similarity, items) / np.bincount(of_pair, minlength=items)


def _inverse_frequencies(captions: Captions, groups: np.ndarray):
    """Function of (group, n-gram) arrays -> log(items of the group) - log(items whose references hold it)."""
    width = max(len(captions.table.order), 1)
    place, ngram, _ = captions.reference_entries
    item = captions.item_of_reference[place]
    once, _ = distinct(item * width + ngram)  # an item's references count once
    keys, first = distinct(groups[once // width] * width + once % width)
    frequency = np.diff(np.append(first, len(once)))
    sizes = np.bincount(groups)
    wordless = (sizes > 0) & (np.bincount(keys // width, minlength=len(sizes)) == 0)
    if wordless.any():
        raise KuleshovError(
            f"{int(sizes[wordless][0])} item(s) of one group have only empty references: CIDEr is undefined, "
            "the official scorer stops here too"
        )
    logarithms = np.log(np.maximum(np.arange(sizes.max(initial=0) + 1, dtype=float), 1.0))

    def idf(group: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        at, known = find_sorted(keys, group * width + wanted)
        return logarithms[sizes[group]] - logarithms[np.where(known, frequency[at], 1)]

    return idf


def _sums(captions: Captions, row: np.ndarray, ngram: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
    """Sum values by row and order of the n-gram: (rows, 4)."""
    key = row * ORDERS + captions.table.order[ngram]
    return np.bincount(key, value.astype(float), rows * ORDERS).astype(float).reshape(rows, ORDERS)


def bleu(captions: Captions, groups: np.ndarray | None = None) -> np.ndarray:
    """Corpus BLEU-1 to BLEU-4 of each group, float64 (G, 4); closest reference length, brevity penalty."""
    groups = np.zeros(len(captions.hypotheses), np.int64) if groups is None else groups
    table, items = captions.table, len(captions.hypotheses)
    words = table.words[captions.hypothesis_rows]
    lengths = table.words[captions.reference_rows]
    # the closest length wins, the shorter one of two equally close
    distance = np.abs(lengths - words[captions.item_of_reference])
    base = int(lengths.max(initial=0)) + 1
    closest = np.minimum.reduceat(distance * base + lengths, captions.first_reference) % base

    correct = captions.matches
    guesses = np.maximum(words[:, None] - np.arange(ORDERS), 0)  # (I, 4)
    count = int(groups.max(initial=0)) + 1
    correct, guesses = (
        np.stack([np.bincount(groups, values[:, n], count) for n in range(ORDERS)], axis=1)
        for values in (correct, guesses)
    )
    test, reference = np.bincount(groups, words, count), np.bincount(groups, closest, count)
    small, tiny = 1e-9, 1e-15  # coco-caption's guards against dividing by zero
    precision = np.cumprod((correct + tiny) / (guesses + small), axis=1)
    scores = precision ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (test + tiny) / (reference + small)
    penalty = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0) if items else np.ones(count)
    return scores * penalty[:, None]


def _clipped_matches(captions: Captions) -> np.ndarray:
    items, width = len(captions.hypotheses), max(len(captions.table.order), 1)
    item, h_ngram, h_count = captions.hypothesis_entries
    place, r_ngram, r_count = captions.reference_entries
    r_key = captions.item_of_reference[place] * width + r_ngram
    rank = np.argsort(r_key, kind="stable")
    keys, first = distinct(r_key[rank])
    most = np.maximum.reduceat(r_count[rank], first) if len(first) else r_count
    at, shared = find_sorted(keys, item * width + h_ngram)
    matched = np.minimum(h_count[shared], most[at[shared]])
    return _sums(captions, item[shared], h_ngram[shared], matched, items)


def rouge_l(captions: Captions) -> np.ndarray:
    """ROUGE-L of each item, float64 (I,): best precision and best recall over the references, beta 1.2."""
    return captions.rouge


def _rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    cache: dict[tuple[str, str], tuple[float, float]] = {}
    scores = np.zeros(len(hypotheses))
    for i, (hypothesis, texts) in enumerate(zip(hypotheses, references, strict=True)):
        precision = recall = 0.0
        for text in texts:
            pair = (hypothesis, text)
            rates = cache.get(pair)
            if rates is None:
                rates = cache[pair] = _lcs_rates(hypothesis, text)
            precision, recall = max(precision, rates[0]), max(recall, rates[1])
        if precision and recall:
            scores[i] = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return scores


def _lcs_rates(hypothesis: str, reference: str) -> tuple[float, float]:
    left, right = hypothesis.split(" "), reference.split(" ")
    if hypothesis == reference:
        return 1.0, 1.0
    length = common_subsequence(left, right)
    return length / len(left), length / len(right)


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyro, 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << i
    mask = (1 << len(left)) - 1
    row = mask
    for word in right:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & mask
    return len(left) - row.bit_count()


def caption_figures(captions: Captions, groups: np.ndarray) -> dict[str, np.ndarray]:
    """The official caption figures of each group: name -> float64 (G,); groups are numbered 0..G-1, none empty."""
    size = np.bincount(groups)
    figures = {"cider": np.bincount(groups, cider(captions, groups)) / size}
    figures |= {f"bleu_{n + 1}": values for n, values in enumerate(bleu(captions, groups).T)}
    return figures | {"rouge": np.bincount(groups, rouge_l(captions)) / size}
