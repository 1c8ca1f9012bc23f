"""A tree of runs as the stage runner leaves it, with made-up numbers, and a whole untrained hierarchy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kuleshov.core.files import sha256_ids, write_atomic, write_json
from kuleshov.core.results import Result, append_results

IDS = sha256_ids(["a", "b"])


def result(metric: str, value: float, task: str, row: str, seed: int | None = None, **changes) -> Result:
    common = {"split": "valid", "n": 240, "of": 240, "sample_ids_sha256": IDS, "code_version": "0"}
    return Result(**{**common, "metric": metric, "value": value, "task": task, "row": row, "seed": seed, **changes})


def write_job(
    folder: Path, row: str = "", seed: int | None = None, task: str = "", words: tuple[str, ...] = ()
) -> Path:
    write_json(folder / "job.json", {"row": row, "seed": seed, "task": task, "words": list(words), "inputs": {}})
    return folder


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Path]:
    """Writes one stage's folder: `stage(name, data, digits, needs, results)`."""

    def make(name, data="vidsitu", digits="00000000", needs=(), results=(), jobs=(), method="", table=0) -> Path:
        folder = tmp_path / "runs" / f"{name}-{data}-demo-{digits}"
        folder.mkdir(parents=True)
        if results:
            append_results(folder / "results.jsonl", results)
        record = {
            "stage": name,
            "table": table,
            "data": data,
            "fingerprint": digits * 8,
            "resolved": {"values": {"method": method}, "data": "generated world"},
            "needs": {path.name.removesuffix("-demo-" + path.name[-8:]): str(path) for path in needs},
            "outputs": {},
            "jobs": list(jobs),
            "seconds": 12.3,
            "code_version": "0.1.0",
        }
        write_json(folder / "stage.json", record)
        return folder

    return make


VERBS = [result("Acc@1", 12.0, "verbs", "trivial")] + [
    result("Acc@1", base + seed, "verbs", row, seed)
    for row, base in (("backbone", 20.0), ("scratch", 30.0), ("pretrained", 40.0))
    for seed in range(3)
]


@pytest.fixture
def runs(stage: Callable[..., Path]) -> Path:
    """The folder of a `tables` run over a backbone, a TxE, verbs and roles."""
    backbone = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    txe = stage("pretrain-txe", "vidsitu", "22222222", needs=[backbone])
    verbs = stage("train-verbs", digits="33333333", needs=[backbone, txe], results=VERBS)
    origin = {"backbone": "slow_d_r50 cvrl-k400", "txe": "masked-event vidsitu"}
    lines = [
        result(name, value, "roles", "pretrained", 0, origin=origin) for name, value in (("CIDEr", 50.0), ("LEA", 40.0))
    ]
    roles = stage("train-roles", digits="44444444", needs=[backbone, txe], results=lines)
    bad = {"path": "<img src=x onerror=alert(1)>.mp4", "reason": "<script>alert(2)</script>"}
    write_json(backbone / "bad_files.jsonl", bad, indent=None)
    write_atomic(txe / "store" / "manifest.json", '{"missing": [{"id": "m1", "reason": "too short"}]}')
    return stage("summary", digits="55555555", needs=[verbs, roles])


def answered_run(stage: Callable[..., Path], world: Path) -> Path:
    """A run of train-verbs that answers hug.01 everywhere, with two seeds."""
    from kuleshov.datasets.vidsitu import VidSitu
    from kuleshov.datasets.vidsitu_predictions import write_predictions

    data = VidSitu(world / "vidsitu")
    segments = data.segments("valid")
    folder = stage("train-verbs", jobs=["pretrained-seed0", "pretrained-seed1"])
    for seed in range(2):
        job = write_job(folder / f"pretrained-seed{seed}", "pretrained", seed)
        write_json(job / "config.yaml", {"data": {"init_args": {"annotations": str(data.root), "split": "valid"}}})
        answers = {name: [["hug.01", "hit.01"]] * 5 for name in segments}
        write_predictions(job / "predictions" / "valid.json", "verbs", answers, segments)
    return folder


def txe_run(stage: Callable[..., Path], world: Path, width: int = 16) -> Path:
    """A run of pretrain-txe with random weights, on random features of the world's movies."""
    import torch

    from kuleshov.datasets.folder import find_videos
    from kuleshov.features.store_writer import StoreWriter
    from kuleshov.txe.encoder import TxE, save

    torch.manual_seed(0)
    folder = stage("pretrain-txe", "lvu", "77777777")
    with StoreWriter(folder / "features", width, 2.0, 2.0) as writer:
        for video in find_videos(world / "lvu" / "videos"):
            writer.add(video.id, torch.randn(20, width))
        writer.finish({})
    data = {"stores": [str(folder / "features")], "video_root": str(world / "lvu" / "videos"), "val_fraction": 0.5}
    write_json(folder / "config.yaml", {"data": {"init_args": data}})
    sizes = {"hidden": 16, "layers": 1, "heads": 2, "feedforward": 16}
    facts = {"kind": "txe", "method": "masked-event", "data": {"token_stride": 2.0, "movies": 4}}
    save(folder / "weights" / "txe.safetensors", TxE(width, **sizes), facts)
    return folder


VERB_IDS = ["chase.01", "hug.01", "look.01", "push.01"]
TXE = {"context": "scratch", "txe_hidden": 16, "txe_layers": 1, "txe_heads": 2, "txe_feedforward": 16}


@pytest.fixture
def hierarchy(stage: Callable[..., Path]) -> Path:
    """A tables run over networks with random weights."""
    import torch

    from kuleshov.backbones import ClipFormat, build_backbone, save_backbone
    from kuleshov.core.weights import save_weights
    from kuleshov.tasks.relations import RelationTask
    from kuleshov.tasks.role_tokens import RoleTokens
    from kuleshov.tasks.roles import RoleTask
    from kuleshov.tasks.verbs import VerbTask

    torch.manual_seed(0)
    backbone = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    network = build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 2}})
    clip = ClipFormat(num_frames=4, frame_stride=4, frame_rate=8.0, crop_size=32, short_side=32)
    save_backbone(backbone / "weights" / "backbone.safetensors", network, clip)
    tokens = RoleTokens.train(["a man", "in a park"], VERB_IDS, ["Arg0", "AScn"], 300)
    sizes = {"decoder_width": 16, "decoder_layers": 1, "decoder_heads": 2, "decoder_feedforward": 16, "bottleneck": 0}
    trained = (
        (VerbTask(**TXE), {"verbs": VERB_IDS}),
        (RelationTask(head_width=8, **TXE), {"relation_counts": [1, 1, 1, 1]}),
        (RoleTask(longest_output=8, **sizes, **TXE), {"tokens": tokens.to_text(), "longest": 8}),
    )
    stages = []
    for digit, (task, facts) in zip("234", trained, strict=True):
        task.assemble({"width": network.feature_width, **facts})
        job = ["pretrained-seed0"]
        stages.append(stage(f"train-{task.task}", digits=digit * 8, needs=[backbone], jobs=job))
        folder = write_job(stages[-1] / job[0], "pretrained", 0)
        for name, (source, manifest) in task.exports().items():
            save_weights(folder / "weights" / f"{name}.safetensors", source.state_dict(), manifest)
    return stage("summary", digits="55555555", needs=stages)


@pytest.fixture
def whole_hierarchy(hierarchy: Path, stage: Callable[..., Path], tiny_world: Path) -> Path:
    """The same run, made from a store of the world's own features and a TxE with random weights too."""
    from kuleshov.core.files import read_json
    from kuleshov.features.extract import extract_command

    runs = hierarchy.parent
    features, verbs = stage("extract-features", digits="66666666"), runs / "train-verbs-vidsitu-demo-22222222"
    weights = runs / "pretrain-backbone-k400-demo-11111111" / "weights" / "backbone.safetensors"
    videos = [str(tiny_world / "vidsitu" / "videos")]
    store = features / "features"
    summary = extract_command(
        store, weights, videos=videos, stride=1.0, dtype="fp32", accelerator="cpu", progress=False
    )
    assert not summary.missing
    write_json(features / "stage.json", read_json(features / "stage.json") | {"outputs": {"features": str(store)}})
    record = read_json(verbs / "stage.json")
    record["needs"] |= {"features": str(features), "txe": str(txe_run(stage, tiny_world, read_width(store)))}
    write_json(verbs / "stage.json", record)
    return hierarchy


def read_width(store: Path) -> int:
    from kuleshov.features.store_index import read_index

    return read_index(store, "events").width


def write_film(path: Path, frames, rate: int = 8) -> Path:
    """A film of RGB frames (H, W, 3) uint8, a key frame every second."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"g": str(rate), "bf": "0"})
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return path


def damage(path: Path, begin: float, end: float) -> None:
    """Overwrite the packets of some seconds of a film."""
    import av

    raw = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        for packet in file.demux(video=0):
            if packet.size and begin <= packet.pts * packet.time_base < end:
                raw[packet.pos : packet.pos + packet.size] = b"A" * packet.size
    path.write_bytes(raw)
