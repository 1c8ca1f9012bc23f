"""The YAMLs of LVU name only arguments that their classes take, and leave the accelerator to the machine."""

import pytest
import yaml

from kuleshov.core.plugins import import_named

NAMES = ("scene-head", "object-transformer", "ot-plus-plus", "instance-pretraining")


@pytest.mark.parametrize("scale", ["demo", "gpu", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stage_has_its_overlay(configs, name, scale):
    base, over = (yaml.safe_load((configs / f"{file}.yaml").read_text()) for file in (name, f"{name}.{scale}"))
    assert "accelerator" not in base["trainer"] | over["trainer"]
    made = {}
    for part in ("model", "data"):
        arguments = base[part]["init_args"] | over.get(part, {}).get("init_args", {})
        made[part] = import_named(base[part]["class_path"])(**arguments)
    epochs = over["trainer"].get("max_epochs", base["trainer"]["max_epochs"])
    assert made["model"].hparams.warmup_epochs == pytest.approx(0.1 * epochs)
    assert made["data"].batch_size >= 8
