"""LVU's scores: windows summed or averaged to movies, top-1 accuracy, mean squared error.

A movie's class is the arg-max of the sum of its windows' softmaxes (ties to the lowest class); a regression
is the mean of its windows' outputs. Wu and Krahenbuhl, CVPR 2021, and their code.
"""

import numpy as np
from numpy.typing import NDArray

from kuleshov.core.errors import KuleshovError

Array = NDArray[np.floating]


def sum_probabilities(logits: Array, movie: NDArray[np.integer], movies: int) -> Array:
    """Sum the softmaxes of each movie's windows.

    Args:
        logits: (W, C) of all windows.
        movie: (W,) index of the window's movie, 0 to movies - 1.
        movies: number of movies M.

    Returns:
        float64 (M, C); a row of zeros for a movie without windows.
    """
    logits = np.asarray(logits, dtype=np.float64)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    sums = np.zeros((movies, logits.shape[-1]))
    np.add.at(sums, movie, raised / raised.sum(axis=-1, keepdims=True))
    return sums


def mean_values(values: Array, movie: NDArray[np.integer], movies: int) -> Array:
    """Average the outputs (W,) of each movie's windows to (M,); nan for a movie without windows."""
    sums = np.bincount(movie, np.asarray(values, dtype=np.float64), movies)
    counts = np.bincount(movie, minlength=movies)
    return np.divide(sums, counts, out=np.full(movies, np.nan), where=counts > 0)


def top1(predicted: NDArray, labels: NDArray) -> float:
    """Per cent of classes that are right; (M,), (M,)."""
    predicted, labels = _paired(predicted, labels)
    return 100.0 * float(np.mean(predicted == labels))


def balanced_top1(predicted: NDArray, labels: NDArray) -> float:
    """Mean over the labels' classes of the per cent that are right: chance for any constant answer."""
    predicted, labels = _paired(predicted, labels)
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 100.0 * float(np.mean(np.bincount(place, predicted == labels) / counts))


def mean_squared_error(predicted: Array, labels: Array) -> float:
    """Mean over movies of the squared difference; (M,), (M,)."""
    return float(np.mean(movie_scores(predicted, labels, False)))


def movie_scores(predicted: NDArray, labels: NDArray, classification: bool) -> Array:
    """Each movie's share in the metric, for a bootstrap: 100 or 0, or its squared error; (M,), (M,) -> (M,)."""
    predicted, labels = _paired(predicted, labels)
    if classification:
        return 100.0 * (predicted == labels)
    return (predicted.astype(np.float64) - labels.astype(np.float64)) ** 2


def beats(value: float, trivial: float, higher_is_better: bool) -> bool:
    """Whether a value is strictly better than the trivial predictor's; nan never is."""
    return value > trivial if higher_is_better else value < trivial


def _paired(predicted: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1 or not len(labels):
        raise KuleshovError(
            f"predictions {predicted.shape} and labels {labels.shape} must be lists of one length, not empty"
        )
    return predicted, labels
