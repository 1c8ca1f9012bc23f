"""Manifests, weights, results, unpickling: what lies on disk."""

import collections
import json
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kuleshov.cli import main
from kuleshov.core.errors import (
    FormatError,
    KuleshovError,
    MissingDataError,
    OutputError,
    UsageError,
    VideoError,
    WeightsError,
    message,
    require_positive,
)
from kuleshov.core.files import (
    read_csv,
    read_json,
    read_json_lines,
    read_yaml,
    sha256_file,
    sha256_ids,
    write_atomic,
    write_json,
    write_through,
)
from kuleshov.core.plugins import import_named, trust, trusted
from kuleshov.core.results import Report, Result, append_results, read_results
from kuleshov.core.unpickle import restricted_load
from kuleshov.core.weights import load_into, load_weights, save_weights


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_through(path, fail)
    assert read_json(path) == {"b": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_json_errors_name_the_place(tmp_path: Path):
    path = tmp_path / "cut.json"
    path.write_text('{"a": [1,\n 2')
    with pytest.raises(FormatError, match=r"cut.json: not valid JSON at line 2 column 3"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(FormatError, match="not UTF-8 text"):
        read_json(path)
    with pytest.raises(MissingDataError, match=r"JSON file not found at .*none.json"):
        read_json(tmp_path / "none.json")


def test_ids_hash_in_any_order():
    assert sha256_ids(["b", "a"]) == sha256_ids(["a", "b"])
    # `printf 'a\nb' | sha256sum`
    assert sha256_ids(["a", "b"]) == "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"


def test_weights_round_trip_and_checks(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    layer = nn.Linear(3, 2)
    save_weights(path, layer.state_dict(), {"architecture": "linear"})
    tensors, manifest = load_weights(path)
    assert torch.equal(tensors["weight"], layer.weight) and manifest["architecture"] == "linear"
    other = nn.Linear(3, 2)
    load_into(other, tensors, str(path))
    assert torch.equal(other.weight, layer.weight) and len(manifest["sha256"]) == 64
    with pytest.raises(WeightsError, match=r"w.safetensors does not fit Linear: .*weight is \(2, 3\) for \(2, 4\)"):
        load_into(nn.Linear(4, 2), tensors, str(path))
    with pytest.raises(WeightsError, match=r"2 missing \(0.bias, 0.weight\), 2 unexpected \(bias, weight\)"):
        load_into(nn.Sequential(nn.Linear(3, 2)), tensors, str(path))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="is not the file that its w.json describes"):
        load_weights(path)
    with pytest.raises(WeightsError, match="convert other people's weights"):
        load_weights(tmp_path / "w.pyth")
    with pytest.raises(MissingDataError, match="weights not found"):
        load_weights(tmp_path / "none.safetensors")


def test_results_round_trip(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    first = Result("acc1", 50.0, "verbs", "valid", 10, 12, sha256_ids(["a"]), seed=1, row="pretrained")
    append_results(path, [first])
    append_results(path, [first])
    assert read_results(path) == [first, first]
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(FormatError, match="record 3: not a result line"):
        read_results(path)


class Runs:
    def __reduce__(self):
        return subprocess.getoutput, ("touch executed",)


def test_unpickling_refuses_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KuleshovError, match="asks for subprocess.getoutput, which is not plain data"):
        restricted_load(pickle.dumps({"weights": Runs()}))
    assert not (tmp_path / "executed").exists()
    with pytest.raises(KuleshovError, match="asks for builtins.eval"):
        restricted_load(b"cbuiltins\neval\n(V1\ntR.")
    with pytest.raises(FormatError, match="not a readable pickle"):
        restricted_load(pickle.dumps([1, 2])[:-3])


def test_unpickling_reads_plain_data(tmp_path: Path):
    value = {"a": np.arange(3), "b": collections.OrderedDict(x={1, 2}), "c": [np.float32(2.5), b"z", None]}
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(value))
    found = restricted_load(path)
    assert found["a"].tolist() == [0, 1, 2] and found["b"] == value["b"] and found["c"] == value["c"]


def test_errors_survive_a_worker():
    for error in (VideoError("a.mp4", "cut\nshort"), FormatError("f", "bad", record=3, field="x")):
        copy = pickle.loads(pickle.dumps(error))  # as a data loader's worker sends it
        assert str(copy) == str(error) and "\n" not in str(copy)


def test_an_error_from_a_loader_worker_keeps_its_one_line():
    sent = "Caught KuleshovError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    sent += '  File "x.py", line 1\nkuleshov.core.errors.KuleshovError: 3 of 4 files are bad: mend them\n'
    assert message(KuleshovError(sent)) == "3 of 4 files are bad: mend them"
    assert message(KuleshovError("two\nlines")) == "two lines"


def test_a_report_becomes_lines():
    report = Report("verbs", "valid", "scratch", {"acc": 50, "f1": 2}, {"acc": 10}, ["a", "b"], of=4, counts={"f1": 1})
    first, second, trivial = report.lines(seed=3, selection="last epoch", config_sha256="c")
    assert (first.value, first.n, first.of, first.seed, first.config_sha256) == (50.0, 2, 4, 3, "c")
    assert (second.metric, second.n) == ("f1", 1) and first.sample_ids_sha256 == sha256_ids(["b", "a"])
    assert (trivial.row, trivial.value, trivial.seed, trivial.selection) == ("trivial", 10.0, None, "")


def test_only_named_packages_are_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KULESHOV_TRUST", "")
    assert import_named("kuleshov.core.results.Result") is Result
    with pytest.raises(KuleshovError, match=r"^m.json: collections.Counter is code of another .*--trust collections"):
        import_named("collections.Counter", "m.json")
    assert import_named("collections.Counter", by_user=True) is collections.Counter
    trust(["collections", "other"])
    assert import_named("collections.Counter") is collections.Counter and trusted() == {"collections", "other"}
    with pytest.raises(KuleshovError, match="cannot import kuleshov.core.nothing.X"):
        import_named("kuleshov.core.nothing.X")


def test_atomic_write_makes_folders(tmp_path: Path):
    write_atomic(tmp_path / "a" / "b.txt", "x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "not readable JSON"),
        ("[1]", "holds a list, a dict was expected"),
    ],
)
def test_damaged_json_is_one_line(text: str, reason: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError, match=reason) as error:
        read_json(tmp_path / "a.json", expected=dict)
    assert "\n" not in str(error.value)
    with pytest.raises(MissingDataError):
        read_json(tmp_path)


def test_lines_of_json_and_of_csv(tmp_path: Path):
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"a": "x\xe2\x80\xa8y"}\n\n[\n')
    lines = read_json_lines(tmp_path / "a")
    assert next(lines) == (1, {"a": "x\u2028y"})
    with pytest.raises(FormatError, match="record 3: not valid JSON"):
        next(lines)
    (tmp_path / "b").write_text('a, b\n\n"x" ,2\n')
    assert list(read_csv(tmp_path / "b")) == [(1, ["a", "b"]), (3, ["x", "2"])]
    (tmp_path / "b").write_text("x" * 200_000)
    with pytest.raises(FormatError, match="not CSV"):
        list(read_csv(tmp_path / "b"))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [BOMB, "weights: &a [*a]\n", "a: " + "[" * 100_000, "a: {"])
def test_a_yaml_bomb_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(FormatError, match=r"c.yaml: not readable as YAML"):
        read_yaml(tmp_path / "c.yaml")
    words = ["extract", "--config", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "s")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Problems parsing config") and said.count("\n") == 1


@pytest.mark.parametrize("place", ["file/a.json", "file", "/proc/none/a.json"])
def test_what_cannot_be_written_is_one_line(place: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    target = tmp_path / place if place != "file" else tmp_path / "folder"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write .*name another place"):
        write_json(target, 1)


@pytest.mark.parametrize("damage", ["cut", "header", "length", "type"])
def test_damaged_weights_are_one_line(damage: str, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(4)}, {})
    raw = path.read_bytes()
    path.write_bytes(
        {
            "cut": raw[:-3],
            "header": raw[:8] + b"[" * (len(raw) - 8),
            "length": b"\xff" * 8 + raw[8:],
            "type": raw.replace(b"F32", b"I64"),
        }[damage]
    )
    write_json(path.with_suffix(".json"), {"sha256": sha256_file(path)})
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(path)


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path: Path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "a.json", {"film": name})
    assert read_json(tmp_path / "a.json") == {"film": name}
    write_atomic(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text() == r"caf\udce9"


def test_a_result_without_a_number_is_named(tmp_path: Path):
    line = {
        "task": "verbs",
        "metric": "Acc@1",
        "value": 1.0,
        "split": "valid",
        "n": 1,
        "of": 1,
        "sample_ids_sha256": "",
    }
    for value in (None, "1"):
        (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "value": value}) + "\n")
        with pytest.raises(FormatError, match="r.jsonl, record 2: not a result line .its value is .*, no number"):
            read_results(tmp_path / "r.jsonl")


@pytest.mark.parametrize("value", ["1", None, 0, -1, float("inf"), float("nan")])
def test_what_is_no_number_above_0_is_refused(value):
    with pytest.raises(UsageError, match="--batch-size has to be a number above 0"):
        require_positive(batch_size=value)
