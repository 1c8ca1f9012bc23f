"""VidSitu's official role evaluator out of a checkout, for `bench_scoring.py --official`.

The folder is a checkout of TheShadow29/VidSitu with its submodule `coval` (branch coval_29Oct20). What the evaluator
imports and the figures do not need is replaced by empty stand-ins: fire, yacs, METEOR and the tokenizer, which would
start Java.
"""

import contextlib
import importlib.util
import io
import json
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from pycocoevalcap.bleu.bleu import Bleu

from kuleshov.datasets.vidsitu_format import EVENTS, Annotation
from kuleshov.metrics.role_metrics import Prediction

FIGURES = ["cider", "bleu", "rouge"]


class _Nothing:
    def __init__(self, *_, **__) -> None:
        """Takes anything, does nothing."""


class _QuietBleu(Bleu):
    def __init__(self, n: int, verbose: int = 0) -> None:
        """The official code names an argument that pycocoevalcap's release does not have."""
        super().__init__(n)


def load(folder: Path) -> ModuleType:
    """The module `vidsitu_code/evl_fns.py` of a checkout.

    Raises:
        SystemExit: the folder lacks the evaluator or coval, in one line.
    """
    code, coval = folder / "vidsitu_code" / "evl_fns.py", folder / "coval"
    for needed in (code, coval / "coval" / "eval" / "evaluator.py"):
        if not needed.is_file():
            raise SystemExit(f"error: {needed} is not there: name a checkout of VidSitu with its submodule coval")
    sys.path.insert(0, str(coval))
    _stand_in("fire")
    _stand_in("yacs")
    _stand_in("yacs.config", CfgNode=_Nothing)
    _stand_in("pycocoevalcap.meteor")
    _stand_in("pycocoevalcap.meteor.meteor", Meteor=_Nothing)
    _stand_in("pycocoevalcap.tokenizer")
    _stand_in("pycocoevalcap.tokenizer.ptbtokenizer", PTBTokenizer=_Nothing)
    sys.modules["pycocoevalcap.bleu.bleu"].Bleu = _QuietBleu
    spec = importlib.util.spec_from_file_location("official_evl_fns", code)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _stand_in(name: str, **members) -> None:
    module = ModuleType(name)
    module.__path__ = []
    for key, value in members.items():
        setattr(module, key, value)
    sys.modules[name] = module


def write_files(
    folder: Path, predictions: list[Prediction], annotations: dict[str, list[Annotation]]
) -> dict[str, Path]:
    """Write split, annotations and predictions as the official code reads them: name -> path."""
    records = [_record(name, one) for name, many in annotations.items() for one in many]
    outputs = [{"ann_idx": number, "vb_output": one} for number, one in enumerate(predictions)]
    paths = {name: folder / f"{name}.json" for name in ("split", "annotations")} | {"predictions": folder / "p.pkl"}
    paths["split"].write_text(json.dumps(list(annotations)), encoding="utf-8")
    paths["annotations"].write_text(json.dumps(records), encoding="utf-8")
    paths["predictions"].write_bytes(pickle.dumps(outputs))
    return paths


def _record(name: str, annotation: Annotation) -> dict:
    return {
        event: {"vid_seg_int": name, "VerbID": one.verb, "Args": dict(one.arguments)}
        for event, one in zip(EVENTS, annotation, strict=True)
    }


def figures(module: ModuleType, paths: dict[str, Path]) -> dict[str, float]:
    """The official figures of the written files, those of single sentences left out."""
    names = {"split_files_lb": "split", "vsitu_ann_files_lb": "annotations", "vinfo_files_lb": "split"}
    files = SimpleNamespace(**{key: {"valid": str(paths[name])} for key, name in names.items()})
    config = SimpleNamespace(ds=SimpleNamespace(vsitu=files), debug_mode=False)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = module.EvalFnCap(config, None, met_keys=FIGURES)
        found = evaluator.eval_cap_mets(pred_file=str(paths["predictions"]), split_type="valid")
    return {name: float(value) for name, value in found.items() if "sent" not in name}
