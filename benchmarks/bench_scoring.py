"""Scoring time of a full validation set's roles, against the same figures by pycocoevalcap or the official code.

    python benchmarks/bench_scoring.py [--segments 1324] [--floor 2] [--official VIDSITU]

The official evaluator runs pycocoevalcap over all items, then inside each verb and each role; that is most of its
time, and what is measured where there is no checkout of it. Ours makes the coreference figures too. `--official`
names a checkout of TheShadow29/VidSitu (see official_vidsitu.py) and compares with the evaluator itself. Prints both
times (of the processor, not the clock) and their ratio; exits with 1 where the ratio is below the floor or a figure
differs.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import official_vidsitu
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from kuleshov.datasets.vidsitu_format import EVENTS, Annotation, Event
from kuleshov.metrics.role_metrics import Item, Prediction, References, choose_references, role_items, score_roles

NAMES = ("Arg0 (agent)", "Arg1 (thing)", "Arg2 (goal)", "ArgM (location)", "Scene of the Event")
SHORT = ("Arg0", "Arg1", "Arg2", "ALoc", "AScn")


def valid_set(segments: int, seed: int = 0) -> tuple[list[Prediction], list[References], dict[str, list[Annotation]]]:
    """Made-up texts in VidSitu's proportions: four annotators, some 150 verbs, two to five roles an event."""
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(1500)]
    weights = [1 / (i + 1) for i in range(1500)]
    verbs = [f"verb.{i:03d}" for i in range(150)]

    def text() -> str:
        return " ".join(rng.choices(words, weights, k=rng.choice((1, 2, 3, 4, 6, 8))))

    annotations: dict[str, list[Annotation]] = {}
    predictions = []
    for number in range(segments):
        asked = [(rng.choice(verbs), rng.sample(range(5), rng.randint(2, 5))) for _ in EVENTS]
        pool = [text() for _ in range(12)]
        annotations[f"v_source{number:05d}_seg_0_10"] = [
            tuple(_event(verb, roles, pool, rng) for verb, roles in asked) for _ in range(4)
        ]
        predictions.append(
            {
                event: {SHORT[role]: rng.choice(pool) for role in roles}
                for event, (_, roles) in zip(EVENTS, asked, strict=True)
            }
        )
    return predictions, choose_references(list(annotations), annotations), annotations


def _event(verb: str, roles: list[int], pool: list[str], rng: random.Random) -> Event:
    arguments = {NAMES[role]: rng.choice(pool) for role in roles}
    return Event(verb, verb, arguments, tuple(arguments), None)


def peer_figures(predictions: list[Prediction], items: list[Item]) -> dict[str, float]:
    """The caption figures by pycocoevalcap, grouped as the official evaluator groups them."""
    figures = _peer(predictions, items)
    for prefix, key in (("MacroVb", lambda item: item.verb), ("MacroArg", lambda item: item.role)):
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(key(item), []).append(item)
        each = [_peer(predictions, group) for group in groups.values()]
        figures |= {f"{prefix}_{name}": sum(one[name] for one in each) / len(each) for name in each[0]}
    return figures


def _peer(predictions: list[Prediction], items: list[Item]) -> dict[str, float]:
    gts = {i: item.texts for i, item in enumerate(items)}
    res = {i: [predictions[item.segment][item.event].get(item.role, "")] for i, item in enumerate(items)}
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    figures = {"cider": Cider().compute_score(gts, res)[0], "rouge": Rouge().compute_score(gts, res)[0]}
    return figures | {f"bleu_{n + 1}": value for n, value in enumerate(bleu)}


def official(
    folder: Path, predictions: list[Prediction], annotations: dict[str, list[Annotation]]
) -> tuple[dict[str, float], float]:
    """The official evaluator's figures, and its seconds, reading its files included."""
    module = official_vidsitu.load(folder)
    with tempfile.TemporaryDirectory() as place:
        paths = official_vidsitu.write_files(Path(place), predictions, annotations)
        started = time.process_time()
        return official_vidsitu.figures(module, paths), time.process_time() - started


def main() -> int:
    """Measure and print; 1 where the floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=1324, help="segments in the set (default: %(default)s)")
    parser.add_argument("--floor", type=float, default=2.0, help="least ratio (default: %(default)s)")
    parser.add_argument("--official", type=Path, help="checkout of VidSitu's official code")
    args = parser.parse_args()
    predictions, references, annotations = valid_set(args.segments)
    started = time.process_time()
    ours = score_roles(predictions, references)
    between = time.process_time()
    if args.official is None:
        peer, theirs = "pycocoevalcap", peer_figures(predictions, role_items(references))
        seconds = time.process_time() - between
    else:
        peer, (theirs, seconds) = "official code", official(args.official, predictions, annotations)
    worst = max(abs(ours[name] - value) for name, value in theirs.items() if name in ours)
    ratio = seconds / (between - started)
    print(f"{args.segments} segments: ours {between - started:.2f} s, {peer} {seconds:.2f} s")
    print(f"ratio {ratio:.1f} (floor {args.floor:g}), greatest difference {worst:.1e}")
    return int(ratio < args.floor or worst > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
