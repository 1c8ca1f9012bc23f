"""`import kuleshov`: light, complete, typed; the way from a film to its nearest events in ten lines."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kuleshov
from kuleshov.backbones import ClipFormat, build_backbone, save_backbone
from kuleshov.txe import TxE, save

ROOT = Path(kuleshov.__file__).parent
# the command line calls the same function
COMMANDS = ("contextualize", "describe", "extract", "search")


def test_importing_loads_nothing():
    code = "import sys, kuleshov; assert not [m for m in sys.modules if m.startswith('kuleshov.')]; "
    code += "assert not {'torch', 'numpy', 'jsonargparse'} & set(sys.modules); print(*dir(kuleshov))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0 and set(kuleshov.__all__) <= set(shown.stdout.split()), shown.stderr


def test_every_name_is_there_and_says_what_it_does():
    assert sorted(kuleshov.__all__) == sorted(kuleshov._HOMES)
    for name in kuleshov.__all__:
        assert callable(value := getattr(kuleshov, name)) and len(inspect.getdoc(value)) > 40, name
    with pytest.raises(AttributeError, match="module 'kuleshov' has no attribute 'extarct'"):
        _ = kuleshov.extarct
    from kuleshov.cli import COMMANDS as table

    assert all(kuleshov._HOMES[name] == table[name].function for name in COMMANDS)


def test_a_film_to_its_nearest_events(tiny_world: Path, tmp_path: Path):
    torch.manual_seed(0)
    weights, txe = str(tmp_path / "backbone.safetensors"), str(tmp_path / "txe.safetensors")
    network = build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 2}})
    sha256 = save_backbone(weights, network, ClipFormat(4, 4, 8.0, 32, 32))["sha256"]
    context = TxE(64, hidden=16, layers=1, heads=2, feedforward=16)
    save(txe, context, {"data": {"token_stride": 2.0, "backbone_sha256": sha256}})

    features, contextual = str(tmp_path / "features"), str(tmp_path / "context")
    kuleshov.extract(features, weights, videos=str(tiny_world / "kinetics" / "clips"), accelerator="cpu")
    kuleshov.contextualize(txe, features, contextual)
    store = kuleshov.EventStore(contextual)
    movie = next(iter(store))
    assert store[movie].shape == (len(store.times(movie)), 16)
    nearest = kuleshov.search(contextual, like=f"{movie}@3", count=3).hits
    assert len(nearest) == 3 and nearest[0].cosine >= nearest[2].cosine

    first = kuleshov.EventStore(features).events(movie)[0]
    clip, reader = kuleshov.load_backbone(weights).clip, kuleshov.VideoReader()
    times = [0.5 + k * clip.frame_seconds for k in range(clip.num_frames)]
    frames = reader.read(tiny_world / "kinetics" / "clips" / f"{movie}.mp4", times, clip.short_side)
    assert frames.shape[0] == 4 and first.shape == (64,)
    assert kuleshov.load_txe(txe)(store[movie].new_zeros(1, 5, 64)).shape == (1, 5, 16)


def test_mistakes_are_one_line(tmp_path: Path):
    for call in (
        lambda: kuleshov.load_backbone(tmp_path / "none.safetensors"),
        lambda: kuleshov.EventStore(tmp_path),
        lambda: kuleshov.extract(tmp_path / "out"),
        lambda: kuleshov.describe(tmp_path / "none.mp4", tmp_path),
        lambda: kuleshov.evaluate("gender", tmp_path, tmp_path),
    ):
        with pytest.raises(kuleshov.KuleshovError) as raised:
            call()
        assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_type_checkers_see_the_types(tmp_path: Path):
    assert (ROOT / "py.typed").is_file()
    lines = [
        "import kuleshov",
        "reveal_type(kuleshov.EventStore('s')['m'])",
        "kuleshov.extract(output=3)",
        "kuleshov.search('s', 'm@1')",
    ]
    (tmp_path / "user.py").write_text("\n".join(lines))
    words = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports", "user.py"]
    shown = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stdout
    assert 'Revealed type is "torch._tensor.Tensor"' in shown and shown.count("error:") == 1, shown
    assert 'incompatible type "int"; expected "Path | str"' in shown
