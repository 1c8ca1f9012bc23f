"""CIDEr, BLEU and ROUGE-L against pycocoevalcap, inside groups too."""

import math
import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.caption_metrics import Captions, bleu, caption_figures, cider, common_subsequence, rouge_l

WORDS = ["man", "a", "the", "in", "red", "Man", "naïve", "日本", "man.", ",", "street", "a\u00a0b", ""]


def random_captions(seed, items=30):
    rng = random.Random(seed)
    pool = [" ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 5, 9]))) for _ in range(40)]
    references = [rng.choices(pool, k=rng.randint(1, 4)) for _ in range(items)]
    references[0] = ["one word that no other text holds"]
    return Captions(rng.choices(pool, k=items), references)


def peers(captions, chosen):
    """The figures of coco-caption over some items."""
    gts = {i: list(captions.references[i]) for i in chosen}
    res = {i: [captions.hypotheses[i]] for i in chosen}
    corpus, each = Cider().compute_score(gts, res)
    scores, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, _ = Rouge().compute_score(gts, res)
    return {"cider": corpus, "rouge": rouge} | {f"bleu_{i + 1}": s for i, s in enumerate(scores)}, each


@pytest.mark.parametrize("seed", range(8))
def test_same_figures_as_coco_caption(seed):
    captions = random_captions(seed)
    expected, each = peers(captions, range(30))
    assert cider(captions) == pytest.approx(each, abs=1e-12)
    assert rouge_l(captions).mean() == pytest.approx(expected["rouge"], abs=1e-12)
    assert bleu(captions)[0] == pytest.approx([expected[f"bleu_{n}"] for n in range(1, 5)], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_scored_on_their_own(seed):
    captions = random_captions(seed)
    groups = np.random.default_rng(seed).permutation(np.arange(30) % 4)
    found = caption_figures(captions, groups)
    for group in range(4):
        expected, _ = peers(captions, np.flatnonzero(groups == group).tolist())
        assert {name: values[group] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def test_closed_forms():
    captions = Captions(["a b c d", "e"], [["a b c d"], ["f"]])
    # an equal text of four words has cosine 1 at each order
    assert cider(captions) == pytest.approx([10.0, 0.0])
    assert rouge_l(captions) == pytest.approx([1.0, 0.0])
    assert bleu(Captions(["a b"], [["a c"]]))[0][0] == pytest.approx(0.5)
    # one reference shorter by two: brevity does not count, half the words match
    assert bleu(Captions(["a b c d"], [["a b"]]))[0][0] == pytest.approx(0.5)
    assert bleu(Captions(["a b"], [["a b c d"]]))[0][0] == pytest.approx(math.exp(-1), rel=1e-6)
    # two bigrams fewer cost exp(-4 / 72); of the orders only the words meet
    short = Captions(["x"], [["x y z"]])
    assert cider(Captions(["x", "q"], [["x y z"], ["r"]]))[0] == pytest.approx(
        10 / 4 / math.sqrt(3) * math.exp(-4 / 72)
    )
    assert rouge_l(short)[0] == pytest.approx(2.44 * 1 * (1 / 3) / (1 / 3 + 1.44))


def test_a_group_of_one_has_no_cider_and_empty_texts_match_in_rouge():
    assert cider(Captions(["a man"], [["a man"]])) == pytest.approx([0.0])
    assert rouge_l(Captions(["", "a  b", "a b"], [[""], ["a  c"], ["a  b"]])) == pytest.approx(
        [1.0, 2 / 3, 2.44 * (2 / 3) / (2 / 3 + 1.44)]
    )


def test_only_empty_references_are_refused():
    with pytest.raises(KuleshovError, match="have only empty references: CIDEr is undefined"):
        cider(Captions(["a", "b"], [["a"], [" "]]), np.array([0, 1]))
    assert cider(Captions(["", ""], [["a"], [""]])) == pytest.approx([0.0, 0.0])


def test_every_item_has_a_reference():
    with pytest.raises(ValueError, match="an item has no reference"):
        Captions(["a"], [[]])
    with pytest.raises(ValueError, match="1 hypotheses for 2 reference lists"):
        Captions(["a"], [["a"], ["b"]])


def slow_subsequence(left, right):
    if not left or not right:
        return 0
    if left[-1] == right[-1]:
        return 1 + slow_subsequence(left[:-1], right[:-1])
    return max(slow_subsequence(left[:-1], right), slow_subsequence(left, right[:-1]))


def test_common_subsequence_against_its_definition():
    rng = random.Random(0)
    for _ in range(200):
        left, right = (rng.choices("abc", k=rng.randint(0, 6)) for _ in range(2))
        assert common_subsequence(left, right) == slow_subsequence(left, right)
