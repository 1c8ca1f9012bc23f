"""Which answers are given for which: pairs of (what is right, what was answered), counted."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHOWN, OTHERS = 20, "others"


def confusion_matrix(pairs: Sequence[tuple[str, str]], shown: int = SHOWN) -> tuple[list[str], NDArray[np.int64]]:
    """Labels, and counts (n, n): what is right by row, what was answered by column.

    The `shown` commonest right answers come first, the commonest at the top; all others are one label, the last.
    """
    common = [label for label, _ in Counter(right for right, _ in pairs).most_common(shown)]
    labels = common + [OTHERS] * any(not {*pair} <= {*common} for pair in pairs)
    place = {label: number for number, label in enumerate(common)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for right, answered in pairs:
        counts[place.get(right, len(common)), place.get(answered, len(common))] += 1
    return labels, counts
