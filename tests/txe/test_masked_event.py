"""Masked-event pretraining through the command line: it learns, resumes bit for bit, and exports."""

from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.features.feature_store import EventStore
from kuleshov.training.lightning_cli import main
from kuleshov.txe import load
from kuleshov.txe.contextualizer import Contextualizer
from kuleshov.txe.encoder import TxE
from kuleshov.txe.feature_normalizer import FeatureNormalizer
from kuleshov.txe.masked_event import MaskedEventPretraining, window_neighbors
from kuleshov.txe.window_data import EventWindows

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "pretrain-txe"
BASE = CONFIGS / "masked-event.yaml"
TINY = {
    "model.init_args.hidden": 8,
    "model.init_args.layers": 1,
    "model.init_args.heads": 2,
    "model.init_args.feedforward": 12,
    "model.init_args.queue_size": 50,
    "data.init_args.batch_size": 8,
    "data.init_args.windows_per_movie": 1,
    "data.init_args.val_fraction": 0.2,
    "trainer.accelerator": "cpu",
    "trainer.logger": "false",
    "trainer.max_epochs": 4,
    "trainer.check_val_every_n_epoch": 1,
}


def fit(run: Path, store: Path, *words: str, overlay: str = "demo", **changes: object) -> MaskedEventPretraining:
    options = {
        **TINY,
        "trainer.default_root_dir": run,
        **{k.replace("__", ".init_args."): v for k, v in changes.items()},
    }
    arguments = ["fit", "-c", str(BASE)]
    arguments += ["-c", str(CONFIGS / f"masked-event.{overlay}.yaml")] if overlay else []
    arguments += [f"--data.init_args.stores=['{store}']"]
    arguments += [f"--{name}={value}" for name, value in options.items()]
    return main([*arguments, *words]).model


@pytest.mark.parametrize("overlay", ["", "small", "demo", "gpu", "paper", "paper-vidsitu", "paper-k400"])
def test_every_configuration_runs(overlay: str, tmp_path: Path, make_store):
    model = fit(tmp_path / "run", make_store(), "--trainer.fast_dev_run=1", overlay=overlay)
    assert model.hparams.input_width == 6 and model.hparams.max_events == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"model__mask_sizes": "[1]"},
        {"model__mask_sizes": "[1,2,3,4]", "model__sampling": "max_discrepancy"},
        {"model__loss": "l2"},
        {"model__positions": "sinusoidal", "model__feature_normalization": "standardize"},
        {"data__token_stride": 3, "data__weighting": "event"},
        {"data__placement": "mmap"},
        {"model__target": "token", "model__target_normalization": "null", "model__queue_per_position": "true"},
        {
            "model__target": "momentum",
            "model__target_normalization": "null",
            "model__keep_share": 0.1,
            "model__other_share": 0.1,
        },
        {"model__window_negatives": "true", "model__queue_per_position": "true"},
        {"model__feature_normalization": "whiten", "model__target_normalization": "none"},
        {"model__target_normalization": "[center,soft-whiten]", "model__queue_per_position": "true"},
        {"model__target_normalization": "[center,whiten]", "model__loss": "l2"},
        {"model__target_normalization": "[center,whiten]", "model__sampling": "max_discrepancy"},
        {"data__placement": "host"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_setting_of_table_2_runs(changes: dict, tmp_path: Path, make_store):
    store = make_store(counts=[14] * 30, stride=1.0)
    assert fit(tmp_path / "run", store, "--trainer.fast_dev_run=2", **changes).trainer.state.finished


def test_training_lowers_the_loss_and_exports_what_it_learned(tmp_path: Path, make_store):
    losses = []

    class Keep(MaskedEventPretraining):
        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            losses.append(float(self.trainer.callback_metrics["train/loss"]))

    store = make_store(counts=[9] * 60)
    trainer, data, module = (trainer_for(tmp_path, 12), EventWindows([str(store)], batch_size=8), Keep(**small()))
    trainer.fit(module, datamodule=data)
    assert losses[-1] < losses[0] - 0.3
    txe, manifest = module.exports()["txe"]
    assert manifest["data"]["token_stride"] == 2.0 and manifest["mask_sizes"] == [1, 2, 3]
    assert manifest["data"]["movies"] == len(data.train_windows.movies.ids) < 60
    assert manifest["arguments"] == txe.arguments


def trainer_for(folder: Path, epochs: int):
    import pytorch_lightning as pl

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=folder, enable_checkpointing=False, **quiet
    )


def small(**changes) -> dict:
    sizes = {"hidden": 8, "layers": 1, "heads": 2, "feedforward": 12, "queue_size": 40, "lr": 1e-2}
    return {**sizes, "warmup_epochs": 0, "dropout": 0.1, **changes}


def test_weights_are_handed_on_by_file(tmp_path: Path, make_store):
    model = fit(tmp_path / "run", make_store(), **{"trainer.max_epochs": 1})
    handed = load(tmp_path / "run" / "weights" / "txe.safetensors")
    events = torch.rand(2, 5, 6)
    assert torch.equal(handed(events), model.txe.eval()(events))


def test_prediction_writes_the_contextualized_features_of_every_movie(tmp_path: Path, make_store):
    store, run = make_store(counts=[9, 3, 12] * 5, stride=1.0), tmp_path / "run"
    model = fit(run, store, "--trainer.max_epochs=1")
    for _ in range(2):  # a second prediction takes the place of the first
        main(["predict", "-c", str(run / "config.yaml")])
    found, before = EventStore(run / "predictions" / "txe_features"), EventStore(store)
    assert sorted(found) == sorted(before) and found.width == 8 and found.stride == 1.0
    context = Contextualizer("pretrained", 6, str(run / "weights" / "txe.safetensors"), frozen=True)
    for name in before:
        assert found.times(name) == before.times(name)
        expected = context.contextualize_long(before.events(name), step=2)
        torch.testing.assert_close(found.events(name), expected, atol=1e-5, rtol=1e-5)
    assert found.manifest["contextualized"]["window"] == 2.0 and found.backbone_sha256 is None
    assert torch.equal(model.txe.output.weight.detach(), load(run / "weights" / "txe.safetensors").output.weight)


def state(model: MaskedEventPretraining) -> dict[str, torch.Tensor]:
    found = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for name, queue in (("queue", model.queues[0]), ("queue_rows", model.queue_rows[0])):
        found |= {f"{name}.{key}": value for key, value in queue.get_extra_state().items()}
    return {name: value.clone() for name, value in found.items()}


def test_going_on_from_a_checkpoint_is_bit_identical(tmp_path: Path, make_store):
    store = make_store()
    whole = fit(tmp_path / "whole", store, *keep_every_step(tmp_path / "kept"), **{"trainer.max_epochs": 3})
    expected, steps = state(whole), whole.trainer.global_step
    assert steps in (9, 12)
    # inside an epoch, and at the end of one
    for step in (1, steps // 3 + 1, 2 * steps // 3):
        kept = tmp_path / "kept" / f"step={step}.ckpt"
        resumed = fit(tmp_path / "rest", store, f"--ckpt_path={kept}", **{"trainer.max_epochs": 3})
        assert resumed.trainer.global_step == steps
        for name, value in state(resumed).items():
            assert torch.equal(value, expected[name]), (step, name)
    assert int(expected["queue.enqueued"]) == steps + 1


def keep_every_step(folder: Path) -> list[str]:
    return [
        "--trainer.callbacks=ModelCheckpoint",
        f"--trainer.callbacks.dirpath={folder}",
        "--trainer.callbacks.filename={step}",
        "--trainer.callbacks.every_n_train_steps=1",
        "--trainer.callbacks.save_top_k=-1",
    ]


def test_the_queue_is_full_of_other_training_events_before_the_first_step(tmp_path: Path, make_store):
    data, seen = EventWindows([str(make_store())], batch_size=8), []

    class Look(MaskedEventPretraining):
        def training_step(self, batch, batch_idx):
            seen.append((self.queues[0].filled().clone(), self.queue_rows[0].filled().clone()))
            return super().training_step(batch, batch_idx)

    module = Look(**small(lr=0.0))
    trainer_for(tmp_path, 1).fit(module, datamodule=data)
    rows, numbers = seen[0]
    assert rows.shape == (40, 6) and len(set(numbers.flatten().tolist())) == 40
    expected = module.txe.targets(data.table.take(numbers.flatten().long()))
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(40))


def test_the_event_looked_for_does_not_count_as_its_own_distractor(tmp_path: Path):
    module = MaskedEventPretraining(input_width=3, max_events=5, **small())
    vector = torch.nn.functional.normalize(torch.rand(1, 3), dim=1)
    module.queues[0].enqueue(vector)
    module.queue_rows[0].enqueue(torch.tensor([[17.0]]).double())
    assert module.token_losses(vector, vector, torch.tensor([17])).tolist() == [0.0]
    assert float(module.token_losses(vector, vector, torch.tensor([18]))) == pytest.approx(0.6931, abs=1e-3)
    module.hparams["skip_own_event"] = False
    assert float(module.token_losses(vector, vector, torch.tensor([17]))) == pytest.approx(0.6931, abs=1e-3)


def test_a_queue_for_each_place_has_its_own_distractors():
    torch.manual_seed(0)
    module = MaskedEventPretraining(input_width=3, max_events=5, queue_per_position=True, **small())
    assert len(module.queues) == 5 and {queue.size for queue in module.queues} == {8}
    fresh = torch.nn.functional.normalize(torch.rand(2, 5, 3), dim=-1)
    module._fresh = (fresh, torch.arange(10).view(2, 5, 1).double())
    module.on_after_backward()
    for place, queue in enumerate(module.queues):
        assert torch.equal(queue.filled(), fresh[:, place])
    predictions, targets = torch.nn.functional.normalize(torch.rand(2, 6, 3), dim=-1)
    place, rows = torch.tensor([0, 4, 4, 1, 2, 0]), torch.tensor([0, 90, 91, 92, 7, 93])
    found = module.token_losses(predictions, targets, rows, place)
    for token in range(6):
        others = [fresh[b, place[token]] for b in range(2) if 5 * b + int(place[token]) != int(rows[token])]
        logits = torch.stack([predictions[token] @ other for other in [targets[token], *others]]) / 0.1
        torch.testing.assert_close(found[token], logits.logsumexp(0) - logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("target", ["token", "momentum"])
def test_tokens_are_looked_for_as_the_input_is_embedded(target: str):
    torch.manual_seed(0)
    module = MaskedEventPretraining(input_width=3, max_events=5, target=target, target_momentum=0.75, **small())
    txe, events = module.txe, torch.rand(2, 5, 3)
    normalize = torch.nn.functional.normalize
    assert module.queues[0].rows.shape[1] == txe.target_width == txe.out_width
    before = txe.project.weight.detach().clone()
    torch.testing.assert_close(txe.targets(events), normalize(events @ before.T + txe.project.bias, dim=-1))
    assert not txe.targets(events).requires_grad and not txe.output.weight.requires_grad
    hidden = txe(events)
    torch.testing.assert_close(txe.reconstruct(hidden), normalize(hidden, dim=-1))
    with torch.no_grad():
        txe.project.weight += 1
    module.log = lambda *_, **__: None
    batch = {"events": events, "mask": torch.rand(2, 2), "rows": torch.arange(10).view(2, 5)}
    module.sizes = (1, 2)
    module.training_step(batch, 0)
    # the copy follows by a quarter of the way; TxE's own tokens are there at once
    moved = before + (0.25 if target == "momentum" else 1.0)
    expected = normalize(events @ moved.T + txe.project.bias, dim=-1)
    torch.testing.assert_close(txe.targets(events), expected, atol=1e-5, rtol=1e-5)


def test_the_target_has_a_normalization_of_its_own():
    torch.manual_seed(0)
    given = {"feature_normalization": "whiten", "target_normalization": "center"}
    module = MaskedEventPretraining(input_width=3, max_events=5, **given, **small())
    rows, events = torch.rand(50, 3) * 5, torch.rand(2, 5, 3)
    module.txe.fit_statistics(rows)
    expected = torch.nn.functional.normalize(events - rows.double().mean(0).float(), dim=-1)
    torch.testing.assert_close(module.txe.targets(events), expected)
    whitened = module.txe.normalizer(rows)
    assert torch.allclose(whitened.T @ whitened / 50, torch.eye(3), atol=0.2)


def test_a_feature_may_be_looked_for_in_several_normalizations():
    torch.manual_seed(0)
    given = {"feature_normalization": "center", "target_normalization": ["center", "whiten"]}
    module = MaskedEventPretraining(input_width=3, max_events=5, **given, **small())
    rows, events = torch.rand(50, 3) * 5, torch.rand(2, 5, 3)
    module.txe.fit_statistics(rows)
    normalize = torch.nn.functional.normalize
    whiten = FeatureNormalizer(3, "whiten")
    whiten.fit(rows)
    found = module.txe.targets(events)
    assert module.txe.target_width == found.shape[-1] == module.queues[0].rows.shape[1] == 6
    expected = [normalize(events - rows.mean(0), dim=-1), normalize(whiten(events), dim=-1)]
    torch.testing.assert_close(found * 2**0.5, torch.cat(expected, -1))
    filled = module.txe.reconstruct(torch.randn(4, module.txe.out_width))
    torch.testing.assert_close(filled.unflatten(-1, (2, 3)).norm(dim=-1), torch.full((4, 2), 0.5**0.5))
    # the copy of what is there has the mean cosine of 1
    torch.testing.assert_close((found * found).sum(-1), torch.ones(2, 5))


def test_a_token_has_no_normalization():
    with pytest.raises(KuleshovError, match="leave it out of target=token"):
        TxE(3, target="token", target_normalization="center", heads=2)


@pytest.mark.parametrize(("keep", "other"), [(1.0, 0.0), (0.0, 1.0)])
def test_hidden_events_may_be_kept_or_replaced(keep: float, other: float):
    torch.manual_seed(0)
    module = MaskedEventPretraining(input_width=3, max_events=5, keep_share=keep, other_share=other, **small()).eval()
    events, masked = torch.rand(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool)
    masked[0, 1:3] = True
    found = module.fill_in(events, masked)
    assert torch.equal(found[1], module.txe(events)[1])
    assert torch.allclose(found[0], module.txe(events)[0]) == (keep == 1.0)
    # nothing of the mask vector is in it
    with torch.no_grad():
        module.txe.mask_vector += 1
    torch.manual_seed(1)
    before = module.fill_in(events, masked)
    with torch.no_grad():
        module.txe.mask_vector += 1
    torch.manual_seed(1)
    assert torch.equal(module.fill_in(events, masked), before)
    with pytest.raises(KuleshovError, match="shares of 1"):
        MaskedEventPretraining(keep_share=0.8, other_share=0.3)
    with pytest.raises(KuleshovError, match="window_negatives are distractors"):
        MaskedEventPretraining(window_negatives=True, loss="l2")


def test_window_neighbors_are_the_other_events_of_the_window():
    targets, masked = torch.rand(3, 5, 2), torch.rand(3, 5) < 0.5
    found = window_neighbors(targets, masked)
    slow = [
        [targets[b, other] for other in range(5) if other != n]
        for b in range(3)
        for n in range(5)
        if bool(masked[b, n])
    ]
    assert torch.equal(found, torch.stack([torch.stack(one) for one in slow]))


def test_l2_is_two_minus_two_cosines():
    module = MaskedEventPretraining(input_width=3, max_events=5, loss="l2", **small())
    predictions, targets = torch.nn.functional.normalize(torch.rand(2, 6, 3), dim=-1)
    expected = 2 - 2 * (predictions * targets).sum(-1)
    torch.testing.assert_close(module.token_losses(predictions, targets, torch.arange(6)), expected)


def test_own_events_are_all_found(tmp_path: Path):
    module = MaskedEventPretraining(input_width=3, max_events=5, **small())
    module.queue_rows[0].enqueue(torch.tensor([[4.0], [7.0], [4.0], [9.0]]).double())
    found = module.own_events(torch.tensor([9, 4, 5, 4]).double())
    assert sorted(found.T.tolist()) == [[0, 3], [1, 0], [1, 2], [3, 0], [3, 2]]
    assert module.own_events(torch.tensor([5]).double()).shape == (2, 0)
