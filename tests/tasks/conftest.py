"""A small VidSitu in the official formats, with event features that tell the verb."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from kuleshov.core.results import read_results
from kuleshov.features.store_writer import StoreWriter

VERBS = ("push.01", "fall.01", "jump.03", "wave.04", "hug.01", "run.02")
NAMES = ("Causes", "Enables", "Reaction To", "NoRel")
PEOPLE = ("woman in a red dress", "man with a hat", "boy in a  blue coat")
PLACES = ("in a kitchen", "on a street")
WIDTH = 16


def _arguments(verb: int, person: int, place: int, annotator: int) -> dict[str, str]:
    arguments = {"Arg0 (agent)": PEOPLE[person] + (" there" if annotator == 2 else "")}
    if verb % 2:
        arguments["Arg1 (thing)"] = PEOPLE[(person + 1) % 3]
    arguments["ArgM (manner)"] = "quickly"
    arguments["Scene of the Event"] = PLACES[place]
    return arguments


def _record(segment: str, verbs: list[int], person: int, place: int, annotator: int) -> dict:
    record = {}
    for number, verb in enumerate(verbs, 1):
        arguments = _arguments(verb, person, place, annotator)
        event = {
            "vid_seg_int": segment,
            "Verb": VERBS[verb],
            "VerbID": VERBS[verb],
            "Arg_List": {name: str(i) for i, name in enumerate(arguments)},
            "Args": arguments,
        }
        if number != 3:
            event["EvRel"] = NAMES[(verb + verbs[2]) % 4]
        record[f"Ev{number}"] = event
    return record


def write_vidsitu(root: Path, train: int = 24, valid: int = 13, seed: int = 0) -> None:
    """Write annotations under root/vidsitu, features under root/store, off-screen flags under root/truth."""
    generator = np.random.default_rng(seed)
    store = StoreWriter(root / "store", WIDTH, 2.0, 2.0, "fp32")
    codes = generator.normal(size=(len(VERBS), WIDTH))
    hidden = {}
    for split, count in (("train", train), ("valid", valid)):
        names, annotated, information = [], [], []
        for number in range(count):
            start = 10 * (number % 3)
            name = f"v_{split[:2]}_-{number // 3:07d}_seg_{start}_{start + 10}"
            verbs = [int(v) for v in generator.integers(len(VERBS), size=5)]
            person, place = (int(n) for n in generator.integers([3, 2]))
            annotated += [_record(name, verbs, person, place, a) for a in range(1 if split == "train" else 4)]
            lists = {f"Ev{i}": [VERBS[v]] * 9 + [VERBS[(v + 1) % 6]] for i, v in enumerate(verbs, 1)}
            information.append({"vid_seg_int": name, "vbid_lst": lists})
            store.add(name, torch.tensor(codes[verbs] + 0.1 * generator.normal(size=(5, WIDTH))))
            hidden[name] = [i == number % 5 for i in range(5)]
            names.append(name)
        _write(root / f"vidsitu/split_files/vseg_split_{split}_lb.json", names)
        _write(root / f"vidsitu/vseg_ann_files/vsann_{split}_lb.json", annotated)
        if split == "valid":
            _write(root / f"vidsitu/vinfo_files/vinfo_{split}_lb.json", information)
    for split, withheld in (("testvb", None), ("testsrl", ("Args", "EvRel")), ("testevrel", ("EvRel",))):
        names = [f"v_{split:-<11}_seg_{start}_{start + 10}" for start in (0, 10, 20, 30)]
        for name in names:
            store.add(name, torch.tensor(codes[generator.integers(len(VERBS), size=5)]))
        _write(root / f"vidsitu/split_files/vseg_split_{split}_lb.json", names)
        if withheld is not None:
            records = [_record(name, [0, 1, 2, 3, 4], 0, 0, 0) for name in names]
            shown = [{e: {k: v for k, v in one.items() if k not in withheld} for e, one in r.items()} for r in records]
            _write(root / f"vidsitu/vseg_ann_files/vsann_{split}_noann_lb.json", shown)
    _write(root / "truth/vidsitu_offscreen.json", hidden)
    store.finish()


def _write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def small_vidsitu(tmp_path_factory) -> Path:
    """Root with vidsitu/, store/ and truth/: 24 training and 13 valid segments, features of width 16."""
    root = tmp_path_factory.mktemp("small")
    write_vidsitu(root)
    return root


@pytest.fixture(scope="session")
def words(small_vidsitu: Path):
    """The command line's words for a configuration of configs/ at demo scale on the small VidSitu."""

    def made(name: str, run: Path, *more: str, command: str = "fit", overlay: str = ".demo") -> list[str]:
        path = f"configs/train-{name.partition('-')[0]}/{name}"
        events = [] if name.endswith("finetune") else [f"--data.init_args.events={small_vidsitu}/store"]
        data = [f"--data.init_args.annotations={small_vidsitu}/vidsitu", *events]
        configs = ["-c", f"{path}.yaml", "-c", f"{path}{overlay}.yaml"]
        return [command, *configs, *data, f"--trainer.default_root_dir={run}", *more]

    return made


@pytest.fixture(scope="session")
def lines_of():
    """(run) -> {(row, metric): line of its results}."""
    return lambda run: {(line.row, line.metric): line for line in read_results(run / "results.jsonl")}


@pytest.fixture(scope="session")
def small_videos(small_vidsitu: Path) -> Path:
    """Folder of the segments' sources: 30 s each, 32 x 32 pixels at 4 frames a second."""
    folder = small_vidsitu / "vidsitu" / "videos"
    folder.mkdir()
    for split in ("train", "valid"):
        names = json.loads((small_vidsitu / f"vidsitu/split_files/vseg_split_{split}_lb.json").read_text())
        for source in sorted({name[2:13] for name in names}):
            write_source(folder / f"{source}.mp4")
    return folder


def write_source(path: Path, seconds: int = 30) -> None:
    """Write a film whose brightness goes up and down."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast"}
        for number in range(4 * seconds):
            image = np.full((32, 32, 3), 128 + 100 * np.sin(number / 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
