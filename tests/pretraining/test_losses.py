"""InfoNCE against slow versions written from the definition, and against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining.contrastive_losses import pair_info_nce, queue_info_nce


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def slow_pair(first, second, temperature):
    """NT-Xent, Algorithm 1 of SimCLR (arXiv 2002.05709), summed over the two directions."""
    views = torch.cat([first, second]).tolist()
    rows = len(first)
    total = 0.0
    for i in range(2 * rows):
        similar = [math.exp(sum(a * b for a, b in zip(views[i], other, strict=True)) / temperature) for other in views]
        positive = similar[(i + rows) % (2 * rows)]
        total += -math.log(positive / (sum(similar) - similar[i])) / rows
    return total


def slow_queue(queries, keys, queue, temperature):
    """Equation 1 of MoCo (arXiv 1911.05722)."""
    total = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        score = [
            math.exp(sum(a * b for a, b in zip(query, k, strict=True)) / temperature) for k in [key, *queue.tolist()]
        ]
        total += -math.log(score[0] / sum(score)) / len(queries)
    return total


@pytest.mark.parametrize(("rows", "width", "temperature"), [(1, 4, 0.1), (2, 3, 0.5), (7, 5, 0.1), (5, 16, 1.0)])
def test_pair_equals_definition(rows, width, temperature):
    first, second = unit(rows, width), unit(rows, width, seed=1)
    loss = pair_info_nce(first, second, temperature)
    assert float(loss) == pytest.approx(slow_pair(first, second, temperature), rel=1e-5)


@pytest.mark.parametrize(("rows", "size", "temperature"), [(1, 1, 0.1), (3, 8, 0.1), (4, 5, 1.0)])
def test_queue_equals_definition(rows, size, temperature):
    queries, keys, queue = unit(rows, 6), unit(rows, 6, seed=1), unit(size, 6, seed=2)
    loss = queue_info_nce(queries, keys, queue, temperature)
    assert float(loss) == pytest.approx(slow_queue(queries, keys, queue, temperature), rel=1e-5)


@pytest.mark.parametrize("rows", [2, 3, 16])
def test_collapse_costs_the_log_of_the_choices(rows):
    same = unit(1, 8).expand(rows, 8)
    assert float(pair_info_nce(same, same, 0.1)) == pytest.approx(2 * math.log(2 * rows - 1), rel=1e-6)
    assert float(queue_info_nce(same, same, same, 0.1)) == pytest.approx(math.log(1 + rows), rel=1e-6)


def test_orthogonal_embeddings_have_a_closed_form():
    eye, rows, tau = torch.eye(6), 6, 0.5
    one_way = math.log(1 + (2 * rows - 2) * math.exp(-1 / tau))
    assert float(pair_info_nce(eye, eye, tau)) == pytest.approx(2 * one_way, rel=1e-6)
    queue = F.pad(torch.eye(3), (6, 0))
    expected = math.log(1 + 3 * math.exp(-1 / tau))
    assert float(queue_info_nce(F.pad(eye, (0, 3)), F.pad(eye, (0, 3)), queue, tau)) == pytest.approx(expected)


def test_order_of_samples_and_views_does_not_matter():
    first, second, order = unit(5, 8), unit(5, 8, seed=1), torch.randperm(5)
    loss = pair_info_nce(first, second, 0.1)
    torch.testing.assert_close(pair_info_nce(second, first, 0.1), loss)
    torch.testing.assert_close(pair_info_nce(first[order], second[order], 0.1), loss)


def test_an_empty_queue_costs_nothing_and_keys_get_no_gradient():
    queries, keys = unit(3, 4).requires_grad_(), unit(3, 4, seed=1).requires_grad_()
    loss = queue_info_nce(queries, keys, torch.zeros(0, 4), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0 and keys.grad is None and not queries.grad.any()


@pytest.mark.parametrize("first", [0, 3])
def test_the_batch_gives_negatives_but_for_the_own_key(first):
    queries, queue, batch = unit(2, 6).requires_grad_(), unit(4, 6, seed=2), unit(5, 6, seed=1)
    keys = batch[first : first + 2]
    loss = queue_info_nce(queries, keys, queue, 0.2, batch, first)
    each = []
    for place in range(2):
        others = torch.cat([batch[: first + place], batch[first + place + 1 :], queue])
        each.append(slow_queue(queries[place : place + 1], keys[place : place + 1], others, 0.2))
    assert float(loss.detach()) == pytest.approx(sum(each) / 2, rel=1e-5)
    loss.backward()
    assert queries.grad.isfinite().all()


def test_gradient_of_pairs_is_right():
    first, second = unit(3, 4).double().requires_grad_(), unit(3, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pair_info_nce(a, b, 0.3), (first, second))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: pair_info_nce(torch.ones(2, 3), torch.ones(3, 3), 0.1), r"got \(2, 3\), \(3, 3\)"),
        (lambda: pair_info_nce(torch.ones(2, 3), torch.ones(2, 3), 0.0), "must be positive, got 0.0"),
        (
            lambda: queue_info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.ones(5, 4), 0.1),
            r"queue \(5, 4\) does not fit queries \(2, 3\)",
        ),
    ],
)
def test_mistakes_are_named(call, text):
    with pytest.raises(KuleshovError, match=text):
        call()
