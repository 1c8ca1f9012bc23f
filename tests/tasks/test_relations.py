"""Event relations: head, weights, loss, data, and the YAML files through the command line."""

import math

import pytest
import torch

from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu
from kuleshov.tasks.relations import PAIRS, RelationData, RelationHead, class_weights, relation_loss
from kuleshov.training.lightning_cli import main


def test_pairs_are_in_time_order():
    """Each score depends on its two events, and tells the earlier from the later."""
    torch.manual_seed(0)
    head, events = RelationHead(6, hidden=8).eval(), torch.randn(1, 5, 6)
    before = head(events)
    assert before.shape == (1, 4, 4)
    for event in range(5):
        moved = events.clone()
        moved[0, event] += 1
        changed = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before[0], head(moved)[0], strict=True)]
        assert changed == [event in pair for pair in PAIRS]
    for place, (first, second) in enumerate(PAIRS):
        assert first < second
        joined = torch.cat([head.event(events[:, first]), head.event(events[:, second])], -1)
        assert torch.allclose(head.pair(joined), before[:, place], atol=1e-6)


def test_the_official_head_joins_events_with_text():
    """Its second MLP sees zeros for text: the rows of its weights that belong to text change nothing."""
    torch.manual_seed(0)
    head, events = RelationHead(6, hidden=8, text_width=5).eval(), torch.randn(2, 5, 6)
    assert [tuple(layer.weight.shape) for layer in head.joint if hasattr(layer, "weight")] == [(8, 13), (8, 8)]
    first, _, last = head.joint
    shown = head.event(events)
    joined = last((shown @ first.weight[:, :8].T + first.bias).relu())
    expected = torch.stack([head.pair(torch.cat([joined[:, a], joined[:, b]], -1)) for a, b in PAIRS], 1)
    torch.testing.assert_close(head(events), expected)
    with torch.no_grad():
        first.weight[:, 8:] += 1
    torch.testing.assert_close(head(events), expected)


def test_class_weights_are_inverse_to_frequency_and_average_to_one():
    labels = torch.tensor([[0, 0, 0, 1], [1, 3, -1, 0]])
    weights = class_weights(torch.bincount(labels[labels >= 0], minlength=4))
    assert weights.tolist() == pytest.approx([7 / (3 * 4), 7 / (3 * 2), 0.0, 7 / 3])
    assert float(weights[labels[labels >= 0]].mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_weighted_mean_over_given_relations(weighted):
    torch.manual_seed(0)
    scores, labels = torch.randn(3, 4, 4), torch.randint(4, (3, 4))
    labels[0, 2] = labels[2, 3] = -1
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0]) if weighted else None
    total, norm = 0.0, 0.0
    for b in range(3):
        for n in range(4):
            if labels[b, n] >= 0:
                weight = float(weights[labels[b, n]]) if weighted else 1.0
                total -= weight * float(scores[b, n].log_softmax(-1)[labels[b, n]])
                norm += weight
    assert float(relation_loss(scores, labels, weights)) == pytest.approx(total / norm, abs=1e-5)
    assert float(relation_loss(torch.zeros(3, 4, 4), labels, weights)) == pytest.approx(math.log(4), abs=1e-6)
    assert float(relation_loss(scores, torch.full((3, 4), -1), weights)) == 0.0


def test_data_has_the_first_annotators_relations(small_vidsitu):
    data = RelationData(annotations=str(small_vidsitu / "vidsitu"), events=str(small_vidsitu / "store"))
    data.setup("fit")
    truth = data.annotations.relations("train")
    for name, labels in zip(data.train_ids, data.train_rows.tensors["relations"].tolist(), strict=True):
        assert [RELATIONS[i] for i in labels] == truth[name][0]
    assert set(data.places.values()) == {3}


def test_balanced_weights_run_through_the_command_line(words, tmp_path):
    more = ("--trainer.fast_dev_run=true", "--model.init_args.class_weighting=balanced")
    assert main(words("relations", tmp_path, *more)).trainer.state.finished


def test_a_training_learns_and_its_file_scores_the_same(words, small_vidsitu, tmp_path, lines_of):
    more = ("--data.init_args.batch_size=8", "--model.init_args.lr=0.01", "--model.init_args.context=scratch")
    main(words("relations", tmp_path, *more))
    lines = lines_of(tmp_path)
    report = evaluate_vidsitu("relations", small_vidsitu / "vidsitu", tmp_path / "predictions/valid.json")
    for metric in ("Mean-Acc", "Top1-Acc"):
        assert lines["scratch", metric].value == report.metrics[metric]
        assert lines["scratch", metric].value > lines["trivial", metric].value + 10
    assert lines["scratch", "Mean-Acc"].n == 13
