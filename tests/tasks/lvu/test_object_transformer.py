import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.results import read_results
from kuleshov.core.weights import save_weights
from kuleshov.features.feature_store import EventStore, InstanceStore
from kuleshov.tasks.event_task import load_task
from kuleshov.tasks.lvu.instance_pretraining import (
    InstancePretraining,
    InstanceSpans,
    compatibility_loss,
    read_classifier,
    soft_label_divergence,
)
from kuleshov.tasks.lvu.movie_samples import SampleMaker, collate, open_movie
from kuleshov.tasks.lvu.object_transformer import ObjectTransformerEncoder, load_encoder_weights
from kuleshov.tasks.lvu.spans import MASK, OTHER
from kuleshov.training.lightning_cli import main

SIZES = {"train": 24, "val": 6, "test": 8}
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feedforward": 16}


@pytest.fixture
def stores(tmp_path, kit):
    hidden = kit.annotations(tmp_path, "genre", SIZES)
    return kit.events(tmp_path / "events", hidden), kit.instances(tmp_path / "instances", hidden, seconds=62)


def batch_of(stores, movies=("test0000000", "test0000001"), events=True, instances=True, rng=None, **options):
    event_store = EventStore(stores[0]) if events else None
    instance_store = InstanceStore(stores[1]) if instances else None
    maker = SampleMaker(event_store.to_torch()[0] if events else None, instance_store, **options)
    opened = [open_movie(name, 0.0, event_store, instance_store, 60, 1) for name in movies]
    return collate([maker(movie, movie.ends, rng, False, place) for place, movie in enumerate(opened)])


def encoder(kit, instances=True, scene=True):
    torch.manual_seed(0)
    widths = (kit.region_width if instances else None, kit.width if scene else None)
    return ObjectTransformerEncoder(*widths, **SMALL).eval()


@pytest.mark.parametrize(("instances", "scene", "tokens"), [(True, False, 122), (False, True, 32), (True, True, 152)])
def test_every_row_of_table_five_has_its_tokens(stores, kit, instances, scene, tokens):
    batch = batch_of(stores, events=scene, instances=instances)
    states, pooled = encoder(kit, instances, scene)(batch, batch.get("events"))
    # 62 seconds of boxes give three spans a movie; events end at second 59 and give one
    spans = 6 if instances else 2
    assert states.shape == (spans, tokens, 16) and pooled.shape == (spans, 16)


def test_the_sum_of_embeddings_is_that_of_the_ids(stores, kit):
    """Token by token from the stores, without batches."""
    net = encoder(kit)
    batch = batch_of(stores)
    tokens = net.instance_tokens(net.feature(batch["features"]), batch)
    movie = InstanceStore(stores[1]).movie("test0000001")
    span = 4  # the second movie's second span, which ends at second 60
    assert batch["movie"][span] == 1 and batch["turn"][span] == 1
    number = int(np.flatnonzero(movie.seconds == 60)[0])  # the span's first token
    box = torch.tensor([*movie.boxes[number], np.prod(movie.boxes[number][2:] - movie.boxes[number][:2])])
    ids = [60 - 1 + 4, 4, 60 - 30 + 129 + 4, 6 - 0 + 4, 4, 6 - 3 + 129 + 4, 4]
    expected = net.feature(torch.from_numpy(movie.features[number])) + net.box(box.float()) + net.kind.weight[0]
    expected = expected + sum(table.weight[i] for table, i in zip(net.tables, ids, strict=True))
    torch.testing.assert_close(tokens[span, 0], expected)


def test_masked_tokens_lose_their_feature(stores, kit):
    net = encoder(kit, scene=False)
    with torch.no_grad():
        net.mask_vector.fill_(0.5)
    batch = batch_of(stores, events=False)
    batch["action"][0, 3], batch["action"][0, 4], batch["other"][0, 4] = MASK, OTHER, batch["row"][0, 9]
    changed = {**batch, "features": batch["features"].clone()}
    changed["features"][batch["row"][0, 3]] += 5.0
    content = [net.instance_tokens(net.feature(b["features"]), b) for b in (batch, changed)]
    torch.testing.assert_close(content[0][0, 3], content[1][0, 3])
    plain = {**batch, "action": torch.zeros_like(batch["action"])}
    moved = net.instance_tokens(net.feature(batch["features"]), plain)
    difference = content[0][0, 4] - moved[0, 4]
    features = net.feature(batch["features"])
    torch.testing.assert_close(difference, features[batch["row"][0, 9]] - features[batch["row"][0, 4]])


def test_neither_padding_nor_order_nor_passes_change_a_span(stores, kit):
    net = encoder(kit)
    batch = batch_of(stores)
    _, pooled = net(batch, batch["events"])
    _, alone = net(batch_of(stores, movies=("test0000001",)), batch["events"][1:])
    torch.testing.assert_close(pooled[3:], alone)
    _, passes = net(batch, batch["events"], spans_per_pass=4)
    torch.testing.assert_close(pooled, passes)
    turned = {**batch, **{name: batch[name].flip(1) for name in ("row", "boxes", "ids", "action", "other")}}
    torch.testing.assert_close(net(turned, batch["events"])[1], pooled)


def test_a_movie_without_boxes_is_told_by_its_scene(stores, kit, tmp_path):
    store = kit.instances(tmp_path / "few", {"test0000000": 1})
    batch = batch_of((stores[0], store))
    states, pooled = encoder(kit)(batch, batch["events"])
    assert bool((batch["row"][1] == -1).all()) and pooled.isfinite().all()
    lone = batch_of((stores[0], store), movies=("test0000001",))
    assert lone["row"].shape == (1, 0)
    torch.testing.assert_close(encoder(kit)(lone, lone["events"])[1][0], pooled[1])


def slow_divergence(logits, labels):
    total = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for logit, p in zip(row, truth, strict=True):
            q = 1 / (1 + np.exp(-logit))
            total += sum(a * np.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
    return total / logits.numel()


def test_soft_label_divergence():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.rand(7, 5)
    assert float(soft_label_divergence(logits, labels)) == pytest.approx(slow_divergence(logits, labels), rel=1e-5)
    assert float(soft_label_divergence(logits, torch.sigmoid(logits))) == pytest.approx(0, abs=1e-6)
    assert float(soft_label_divergence(torch.zeros(1, 1), torch.ones(1, 1))) == pytest.approx(np.log(2))
    assert float(soft_label_divergence(torch.zeros(0, 3), torch.zeros(0, 3))) == 0


def test_compatibility_loss():
    torch.manual_seed(0)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    both = torch.cat([first, second])
    total = 0.0
    for i in range(8):
        partner = (i + 4) % 8
        terms = [float(both[i] @ both[j] / 0.2) for j in range(8) if j != i]
        total += np.log(np.sum(np.exp(terms))) - float(both[i] @ both[partner] / 0.2)
    assert float(compatibility_loss(first, second)) == pytest.approx(total / 8, rel=1e-5)
    # equal vectors: each of the 2B - 1 others is as likely
    assert float(compatibility_loss(torch.zeros(3, 2), torch.zeros(3, 2))) == pytest.approx(np.log(5))


def test_pretraining_then_the_task_then_ot_plus_plus(tmp_path, fit, stores, lines_of):
    short = ("--trainer.logger=false", "--trainer.max_epochs=1")
    fit("instance-pretraining", tmp_path / "pretrained", *short, data={"instances": stores[1]}, model=SMALL)
    main(["predict", "-c", str(tmp_path / "pretrained" / "config.yaml")])
    spans = load_file(tmp_path / "pretrained" / "predictions" / "spans.safetensors")
    # 62 seconds have three spans
    assert len(spans) == sum(SIZES.values()) and {part.shape for part in spans.values()} == {(3, 16)}
    weights = tmp_path / "pretrained" / "weights" / "object-transformer.safetensors"
    data, model = {"instances": stores[1], "annotations": tmp_path}, {**SMALL, "instance_weights": weights}
    longer, learns = ("--trainer.logger=false", "--trainer.max_epochs=12"), {**model, "lr": 0.01}
    fit("object-transformer", tmp_path / "ot", *longer, data={**data, "batch_size": 4}, model=learns)
    found = lines_of(tmp_path / "ot")
    assert found["instances", "top1"].value > found["trivial", "top1"].value
    assert found["instances", "top1"].weights_sha256 is not None
    answers = tmp_path / "ot" / "predictions" / "test.csv"
    text = answers.read_text()
    answers.unlink()
    main(["predict", "-c", str(tmp_path / "ot" / "config.yaml")])
    assert answers.read_text() == text
    model |= {"context": "scratch", "txe_hidden": 8, "txe_layers": 1, "txe_heads": 2, "txe_feedforward": 8}
    cli = fit("ot-plus-plus", tmp_path / "both", *short, data={**data, "events": stores[0]}, model=model)
    assert read_results(tmp_path / "both" / "results.jsonl")[0].row == "ot++-scratch"
    weights.unlink()
    loaded = load_task(tmp_path / "both" / "weights" / "genre.safetensors")
    assert loaded.row == "ot++-scratch" and loaded.encoder.arguments["instance_normalization"] == "whiten"
    text = (tmp_path / "both" / "predictions" / "test.csv").read_text()
    cli.trainer.predict(loaded, datamodule=cli.datamodule)
    assert (tmp_path / "both" / "predictions" / "test.csv").read_text() == text


@pytest.mark.parametrize(("given", "expected"), [(None, 0.3), (0.0, 0.0)])
def test_dropout_of_attention_s_weights_may_differ(kit, given, expected):
    net = ObjectTransformerEncoder(kit.region_width, **SMALL, dropout=0.3, attention_dropout=given)
    assert [(layer.attention_dropout, layer.drop_inside.p) for layer in net.layers] == [(expected, 0.0)]
    assert net.drop.p == net.layers[0].drop.p == 0.3


def test_pretraining_lowers_its_loss(tmp_path, kit, stores):
    """Twenty steps on one batch, without dropout."""
    torch.manual_seed(0)
    data = InstanceSpans(str(stores[1]), batch_size=4, seed=0)
    data.setup()
    loader = data.train_dataloader()
    batch = next(iter(loader))
    module = InstancePretraining(dropout=0.0, soft_label_classes=8, **SMALL)
    module._trainer = type("Trainer", (), {"datamodule": data})()
    module.configure_model()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        found = module.losses(batch)
        loss = 80 * found["mask"] + found["compatibility"]
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["scene-head", "object-transformer", "ot-plus-plus", "instance-pretraining"])
def test_fast_dev_run_through_the_paper_values(name, tmp_path, fit, stores):
    data = {"annotations": tmp_path, "events": stores[0], "instances": stores[1], "eval_batch_size": 1}
    unused = {"scene-head": {"instances"}, "object-transformer": {"events"}, "ot-plus-plus": set()}
    unused["instance-pretraining"] = {"annotations", "events", "eval_batch_size"}
    data = {key: value for key, value in data.items() if key not in unused[name]}
    model = {} if name == "scene-head" else {"hidden": 24, "feedforward": 24}
    words = ("--trainer.fast_dev_run=true", "--trainer.accelerator=cpu")
    fit(name, tmp_path / "run", *words, scale=None, data={**data, "batch_size": 2}, model=model)
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_evaluation_is_deterministic_and_masking_there_is_an_option(stores):
    plain = batch_of(stores, mask_share=0.0, rng=np.random.default_rng(0))
    assert not plain["chosen"].any() and not plain["action"].any()
    masked = batch_of(stores, mask_share=0.15, rng=np.random.default_rng(0))
    assert masked["chosen"].any(1).all()


def test_weights_that_do_not_fit_are_named(tmp_path, kit):
    net = encoder(kit, scene=False)
    path = tmp_path / "ot.safetensors"
    save_weights(path, net.state_dict(), {"architecture": "object_transformer", "arguments": net.arguments})
    both = encoder(kit)
    load_encoder_weights(both, str(path))
    torch.testing.assert_close(both.feature.weight, net.feature.weight)
    with pytest.raises(WeightsError, match="instance_normalization=none, the configuration has whiten"):
        load_encoder_weights(ObjectTransformerEncoder(6, None, **SMALL, instance_normalization="whiten"), str(path))
    with pytest.raises(WeightsError, match="does not fit .*feature.weight"):
        load_encoder_weights(ObjectTransformerEncoder(9, None, **SMALL), str(path))
    save_weights(path, {"x": torch.zeros(1)}, {"architecture": "txe"})
    with pytest.raises(WeightsError, match="holds txe weights, not an Object Transformer"):
        load_encoder_weights(net, str(path))
    with pytest.raises(WeightsError, match="no linear classifier over features of width 5"):
        read_classifier(str(path), 5)
    with pytest.raises(KuleshovError, match="10 is not a multiple of heads 4"):
        ObjectTransformerEncoder(4, None, hidden=10, heads=4)
