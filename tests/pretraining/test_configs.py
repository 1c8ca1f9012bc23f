"""Every configuration goes through the real command line."""

from pathlib import Path

import pytest
import yaml

METHODS = ("cvrl", "modist", "supervised")
SCALES = ((), ("demo",), ("gpu",), ("paper",))  # every method has every scale
SECOND_PHASE = ("paper", "paper-vidsitu")
RUNS = [(method, overlays) for method in METHODS for overlays in SCALES]
RUNS += [(method, overlays) for method in ("cvrl", "modist") for overlays in (SECOND_PHASE, ("small",))]
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "pretrain-backbone"


@pytest.mark.parametrize(("method", "overlays"), RUNS, ids=str)
def test_configuration_runs(fit, method, overlays):
    cli = fit(method, *overlays, trainer__fast_dev_run="true")
    assert cli.model.method == method
    assert cli.trainer.global_step == 1


def test_no_configuration_is_left_out():
    named = {".".join((method, *overlays[-1:])) for method, overlays in RUNS}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == named


def test_the_second_phase_has_the_epochs_of_the_paper():
    for method in ("cvrl", "modist"):
        text = (CONFIGS / f"{method}.paper-vidsitu.yaml").read_text(encoding="utf-8")
        assert yaml.safe_load(text) == {"trainer": {"max_epochs": 200}}


def test_bases_say_what_the_paper_says():
    base = yaml.safe_load((CONFIGS / "cvrl.yaml").read_text(encoding="utf-8"))
    model, data = base["model"]["init_args"], base["data"]["init_args"]
    assert (model["temperature"], model["lr"], model["lr_batch"], model["weight_decay"]) == (0.1, 0.32, 1024, 1e-6)
    assert (model["hidden_layers"], model["hidden_width"], model["embedding_width"]) == (3, 2048, 128)
    assert (data["num_frames"], data["frame_stride"], data["batch_size"]) == (16, 4, 1024)
    assert base["trainer"]["max_epochs"] == 400
    base = yaml.safe_load((CONFIGS / "modist.yaml").read_text(encoding="utf-8"))
    model, data = base["model"]["init_args"], base["data"]["init_args"]
    assert (model["queue_size"], model["key_momentum"], model["temperature"]) == (65536, 0.999, 0.1)
    assert (model["visual_weight"], model["cross_weight"], model["motion_weight"]) == (1, 1, 0)
    assert (data["shift_low"], data["shift_high"]) == (0.5, 10)
