"""Coreference figures over a corpus of role clusters: LEA and soft LEA, and the older figures beside them.

Each figure is the F1 of a precision and a recall whose numerators and denominators are summed over the corpus.
MUC: Vilain et al., MUC-6, 1995; B3: Bagga and Baldwin, LREC 1998; CEAF-e: Luo, HLT 2005. The official VidSitu
evaluator prints them all; the paper reports LEA.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kuleshov.metrics.lea import Clusters, f1, lea_counts, soft_precision_counts


@dataclass(frozen=True)
class Document:
    """One segment's clusters: the prediction's, the reference's, and mention -> CIDEr of its predicted text."""

    response: Clusters
    key: Clusters
    weights: Mapping[str, float]


def corpus_figures(documents: Iterable[Document]) -> dict[str, float]:
    """Every coreference figure under its official name; each document counts by its clusters."""
    precision: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    recall: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(total: list[float], counts: tuple[float, float]) -> None:
        total[0] += counts[0]
        total[1] += counts[1]

    for document in documents:
        response, key = document.response, document.key
        for name, counts in _COUNTS.items():
            add(precision[name], counts(response, key))
            add(recall[name], counts(key, response))
        add(precision["lea_soft"], soft_precision_counts(response, key, document.weights))
        add(recall["lea_soft"], lea_counts(key, response))
        similarity = aligned_similarity(response, key)
        add(precision["ceafe"], (similarity, len(response)))
        add(recall["ceafe"], (similarity, len(key)))
    names = (*_COUNTS, "ceafe", "lea_soft")
    return {name: f1(tuple(precision[name]), tuple(recall[name])) for name in names}


def mention_counts(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    """Distinct mentions that `others` holds too, and all distinct mentions."""
    mentions = {mention for cluster in clusters for mention in cluster}
    known = {mention for cluster in others for mention in cluster}
    return float(len(mentions & known)), float(len(mentions))


def muc_counts(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    """Links that survive when each cluster is cut by `others`, and all links (MUC)."""
    home = {mention: i for i, other in enumerate(others) for mention in other}
    kept = total = 0
    for cluster in clusters:
        places = [home[mention] for mention in cluster if mention in home]
        kept += len(places) - len(set(places))
        total += len(cluster) - 1
    return float(kept), float(total)


def b_cubed_counts(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    """Sum over mentions of the share of their cluster that `others` holds together, and all mentions (B3)."""
    home = {mention: i for i, other in enumerate(others) for mention in other}
    numerator = 0.0
    for cluster in clusters:
        together = Counter(home[mention] for mention in cluster if mention in home)
        numerator += sum(n * n for n in together.values()) / len(cluster)
    return numerator, float(sum(len(cluster) for cluster in clusters))


_COUNTS: dict[str, Callable[[Clusters, Clusters], tuple[float, float]]] = {
    "mentions": mention_counts,
    "muc": muc_counts,
    "bcub": b_cubed_counts,
    "lea": lea_counts,
}


def aligned_similarity(response: Clusters, key: Clusters) -> float:
    """Greatest sum of similarities 2 |a & b| / (|a| + |b|) over one-to-one pairs of clusters (CEAF-e)."""
    similarity: dict[int, dict[int, float]] = defaultdict(dict)
    for i, a in enumerate(response):
        members = set(a)
        for j, b in enumerate(key):
            common = sum(mention in members for mention in b)
            if common:
                similarity[i][j] = 2 * common / (len(a) + len(b))
    return sum(_best_pairs(rows) for rows in _components(similarity))


def _components(similarity: Mapping[int, Mapping[int, float]]) -> list[list[Mapping[int, float]]]:
    """Rows that share a column, directly or through other rows, together."""
    components: list[tuple[set[int], list[Mapping[int, float]]]] = []
    for row in similarity.values():
        columns, rows, apart = set(row), [row], []
        for other_columns, other_rows in components:
            if columns & other_columns:
                columns, rows = columns | other_columns, rows + other_rows
            else:
                apart.append((other_columns, other_rows))
        components = [*apart, (columns, rows)]
    return [rows for _, rows in components]


def _best_pairs(rows: list[Mapping[int, float]]) -> float:
    """Greatest sum of one value a row, no column twice; shortest augmenting paths with potentials."""
    columns = sorted({column for row in rows for column in row})
    if len(rows) == 1 or len(columns) == 1:
        return max(value for row in rows for value in row.values())
    size = max(len(rows), len(columns))
    cost = [[-row.get(column, 0.0) for column in columns] + [0.0] * (size - len(columns)) for row in rows]
    cost += [[0.0] * size for _ in range(size - len(rows))]
    row_potential, column_potential = [0.0] * size, [0.0] * (size + 1)
    row_of = [-1] * (size + 1)  # the last column is where a free row starts
    for free in range(size):
        row_of[size] = free
        _augment(cost, row_potential, column_potential, row_of)
    return -sum(cost[row_of[column]][column] for column in range(size))


def _augment(cost: list[list[float]], rows: list[float], columns: list[float], row_of: list[int]) -> None:
    """Give the free row a column along the cheapest path; Jonker and Volgenant, 1987."""
    size = len(cost)
    distance, previous = [float("inf")] * size, [size] * size
    done: set[int] = set()
    column = size
    while row_of[column] >= 0:
        done.add(column)
        row = row_of[column]
        for other in range(size):
            if other not in done:
                step = cost[row][other] - rows[row] - columns[other]
                if step < distance[other]:
                    distance[other], previous[other] = step, column
        nearest = min((other for other in range(size) if other not in done), key=distance.__getitem__)
        least = distance[nearest]
        for other in range(size + 1):
            if other in done:
                rows[row_of[other]] += least
                columns[other] -= least
            elif other < size:
                distance[other] -= least
        column = nearest
    while column != size:
        row_of[column] = row_of[previous[column]]
        column = previous[column]
    row_of[size] = -1
