"""CIDEr, BLEU and ROUGE-L of short texts by pycocoevalcap, as VidSitu's official code calls it.

Nothing is tokenized or lower-cased: CIDEr and BLEU split at white space, ROUGE-L at single blanks, so that double
blanks make empty tokens and "" against "" is a hit. A figure of some of the items (one verb, one role) takes its
document frequencies from these items alone; a group of one item has CIDEr 0.

CIDEr: Vedantam et al., CVPR 2015. BLEU: Papineni et al., ACL 2002, closest reference length. ROUGE-L: Lin, 2004.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge

from kuleshov.core.errors import KuleshovError


class Captions:
    """Items of one hypothesis and its references: counted once, scored whole or in groups.

    Args:
        hypotheses: a text an item.
        references: the item's reference texts, at least one.
    """

    def __init__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        if not all(references):
            raise ValueError("an item has no reference")
        self._pairs = list(zip(hypotheses, references, strict=True))
        self._counted = self._count(CiderScorer())

    def _count(self, scorer: Any) -> Any:
        """The scorer with the n-grams of all items counted."""
        for pair in self._pairs:
            scorer += pair
        return scorer

    @cached_property
    def rouge(self) -> np.ndarray:
        """ROUGE-L (I,) of each item."""
        rouge = Rouge()
        return np.array([rouge.calc_score([hypothesis], texts) for hypothesis, texts in self._pairs])

    @cached_property
    def _matched(self) -> BleuScorer:
        return self._count(BleuScorer(n=4))

    def cider(self, items: Sequence[int]) -> np.ndarray:
        """CIDEr-D of each of some items, float64 (len(items),), times ten as coco-caption gives it.

        Raises:
            KuleshovError: no reference of these items holds a word, where coco-caption stops.
        """
        scorer = CiderScorer()
        scorer.ctest, scorer.crefs = ([of[i] for i in items] for of in (self._counted.ctest, self._counted.crefs))
        if not any(any(texts) for texts in scorer.crefs):
            raise KuleshovError(
                f"{len(items)} item(s) of one group have only empty references: CIDEr is undefined, "
                "the official scorer stops here too"
            )
        return scorer.compute_score()[1]

    def bleu(self, items: Sequence[int]) -> list[float]:
        """Corpus BLEU-1 to BLEU-4 of some items."""
        scorer = BleuScorer(n=4)
        scorer.ctest = [self._matched.ctest[i] for i in items]
        return scorer.compute_score(option="closest")[0]

    def figures(self, items: Sequence[int]) -> dict[str, float]:
        """The official figures of some items: cider, rouge, bleu_1 to bleu_4."""
        found = {"cider": float(self.cider(items).mean()), "rouge": float(self.rouge[items].mean())}
        return found | {f"bleu_{n}": value for n, value in enumerate(self.bleu(items), 1)}
