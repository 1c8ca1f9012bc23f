"""CIDEr, BLEU and ROUGE-L by group, against pycocoevalcap as the official code calls it and in closed form."""

import math
import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.caption_metrics import Captions

WORDS = ["man", "a", "the", "in", "red", "Man", "naïve", "日本", "man.", ",", "street", "a\u00a0b", ""]


def random_texts(seed, items=30):
    rng = random.Random(seed)
    pool = [" ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 5, 9]))) for _ in range(40)]
    references = [rng.choices(pool, k=rng.randint(1, 4)) for _ in range(items)]
    references[0] = ["one word that no other text holds"]
    return rng.choices(pool, k=items), references


def official(hypotheses, references, chosen):
    """The figures of coco-caption over some items, and each item's CIDEr."""
    gts = {i: list(references[i]) for i in chosen}
    res = {i: [hypotheses[i]] for i in chosen}
    corpus, each = Cider().compute_score(gts, res)
    scores, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, _ = Rouge().compute_score(gts, res)
    return {"cider": corpus, "rouge": rouge} | {f"bleu_{i + 1}": s for i, s in enumerate(scores)}, each


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_scored_on_their_own(seed):
    texts = random_texts(seed)
    captions = Captions(*texts)
    groups = np.random.default_rng(seed).permutation(np.arange(30) % 4)
    for chosen in [list(range(30)), *(np.flatnonzero(groups == group).tolist() for group in range(4))]:
        expected, each = official(*texts, chosen)
        assert captions.figures(chosen) == pytest.approx(expected, abs=1e-12)
        assert captions.cider(chosen) == pytest.approx(each, abs=1e-12)


def test_closed_forms():
    captions = Captions(["a b c d", "e"], [["a b c d"], ["f"]])
    # an equal text of four words has cosine 1 at each order
    assert captions.cider([0, 1]) == pytest.approx([10.0, 0.0])
    assert captions.rouge == pytest.approx([1.0, 0.0])
    assert Captions(["a b"], [["a c"]]).bleu([0])[0] == pytest.approx(0.5)
    # one reference shorter by two: brevity does not count, half the words match
    assert Captions(["a b c d"], [["a b"]]).bleu([0])[0] == pytest.approx(0.5)
    assert Captions(["a b"], [["a b c d"]]).bleu([0])[0] == pytest.approx(math.exp(-1), rel=1e-6)
    # two bigrams fewer cost exp(-4 / 72); of the orders only the words meet
    short = Captions(["x", "q"], [["x y z"], ["r"]])
    assert short.cider([0, 1])[0] == pytest.approx(10 / 4 / math.sqrt(3) * math.exp(-4 / 72))
    assert short.rouge[0] == pytest.approx(2.44 * 1 * (1 / 3) / (1 / 3 + 1.44))


def test_a_group_of_one_has_no_cider_and_empty_texts_match_in_rouge():
    assert Captions(["a man"], [["a man"]]).cider([0]) == pytest.approx([0.0])
    assert Captions(["", "a  b", "a b"], [[""], ["a  c"], ["a  b"]]).rouge == pytest.approx(
        [1.0, 2 / 3, 2.44 * (2 / 3) / (2 / 3 + 1.44)]
    )


def test_only_empty_references_are_refused():
    with pytest.raises(KuleshovError, match="1 item.* only empty references: CIDEr is undefined"):
        Captions(["a", "b"], [["a"], [" "]]).cider([1])
    assert Captions(["", ""], [["a"], [""]]).cider([0, 1]) == pytest.approx([0.0, 0.0])


def test_every_item_has_a_reference():
    with pytest.raises(ValueError, match="an item has no reference"):
        Captions(["a"], [[]])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        Captions(["a"], [["a"], ["b"]])
