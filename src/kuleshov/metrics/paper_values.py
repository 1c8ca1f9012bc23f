"""The numbers that the paper prints, Tables 1 to 5, and which of them belong beside which of ours.

Xiao, Kundu, Tighe, Modolo: Hierarchical Self-supervised Representation Learning for Movie Understanding,
CVPR 2022. Values are per cent (squared errors for Like and Views), with the standard error where printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kuleshov.datasets.lvu import LVU_TASKS


@dataclass(frozen=True)
class PaperValue:
    """A printed number, its standard error over runs (None where none is printed), its table's number and its row."""

    value: float
    error: float | None
    table: int
    row: str


_PRINTED = """
Table 1: CIDEr CIDEr-verb CIDEr-arg ROUGE-L LEA
GPT2: 34.67 42.97 34.45 40.08 48.08
I3D+TxD, Sup-K400: 47.14 51.61 41.29 40.67 37.89
I3D+TxE+TxD, Sup-K400, N: 47.06 51.67 42.76 42.41 48.92
Slow-D+TxD, Sup-K400: 51.37±1.06 59.68±0.88 46.10±0.90 41.37±0.59 36.03±0.70
Slow-D+TxE+TxD, Sup-K400, N: 51.36±1.04 59.72±0.87 47.25±0.94 41.72±0.65 45.99±0.56
Slow-D+TxE+TxD, CVRL-K400, N: 54.40±0.96 63.18±1.27 47.63±1.83 41.80±1.01 46.31±1.13
Slow-D+TxE+TxD, CVRL-K400, MaskPred-K400: 57.48±1.74 65.08±1.92 51.21±1.87 41.65±1.15 45.71±0.87
Slow-D+TxE+TxD, CVRL-VS, MaskPred-VS: 44.32±0.56 52.07±0.81 39.08±0.64 40.56±0.34 48.87±0.62
Slow-D+TxE+TxD, CVRL-K400, MaskPred-VS: 60.34±0.75 69.12±1.43 53.87±0.97 43.77±0.38 46.77±0.61
Slow-D+TxE+TxD, CVRL-K400, MaskPred-LVU: 61.18±1.48 69.15±1.57 54.99±1.12 43.38±0.87 47.81±0.90
Human (up. bound): 84.85 91.70 80.15 39.77 72.10
Table 2: CIDEr CIDEr-verb CIDEr-arg ROUGE-L LEA
{1}, 2s, uniform, contrastive: 57.01±2.21 63.80±3.06 50.85±1.77 41.69±1.34 49.13±1.24
{1, 2}, 2s, uniform, contrastive: 59.15±2.01 66.79±1.99 53.56±1.61 42.16±1.13 46.33±0.94
{1, 2, 3}, 2s, uniform, contrastive: 61.18±1.48 69.15±1.57 55.00±1.12 43.38±0.87 47.81±0.90
{1, 2, 3, 4}, 2s, uniform, contrastive: 59.45±1.31 64.71±2.05 52.94±1.55 43.25±0.56 48.96±0.61
{1, 2, 3}, 1s, uniform, contrastive: 60.15±1.13 66.81±1.64 53.29±1.17 42.31±0.68 47.66±0.69
{1, 2, 3}, 3s, uniform, contrastive: 58.38±0.80 65.69±0.72 52.15±1.11 42.50±0.49 48.02±0.70
{1, 2, 3}, 2s, uniform, L2 distance: 58.88±1.13 66.43±0.86 52.22±1.01 43.05±0.60 48.55±0.85
{1, 2, 3}, 2s, max discrep., contrastive: 61.65±0.79 68.44±0.93 55.06±0.90 43.44±0.45 48.25±0.54
Table 3: Mean-Acc Top1-Acc
I3D, Supervised, vb finetune: 34.13 39.91
Slow-D, Supervised: 33.03±0.21 41.90±0.23
Slow-D, CVRL: 32.05±0.24 38.68±0.69
Slow-D, MoDist: 33.29±0.15 40.52±0.58
Slow-D, No, vb finetune: 30.66±0.21 41.29±0.31
Slow-D, Supervised, vb finetune: 34.00±0.12 40.65±0.29
Slow-D, CVRL, vb finetune: 33.89±0.17 41.35±0.24
Slow-D, MoDist, vb finetune: 34.66±0.18 41.75±0.47
Slow-D+TxE, CVRL, vb finetune, TxE No: 25.00±0.00 39.42±0.00
Slow-D+TxE, MoDist, vb finetune, TxE No: 25.00±0.00 39.42±0.00
Slow-D+TxE, CVRL, vb finetune, TxE MaskPred: 34.71±0.07 41.16±0.24
Slow-D+TxE, MoDist, vb finetune, TxE MaskPred: 35.32±0.17 41.62±0.43
Table 4: Acc@1 Acc@5 Recall@5
Slow, Sup-K400: 29.05 58.69 19.19
Slow-D, -: 31.69 68.64 5.68
Slow-D, Sup-K400: 38.29 69.27 18.70
Slow-D, CVRL-K400: 32.84 61.57 13.59
Slow-D, MoDist-K400: 42.96 73.17 17.48
Slow-D, CVRL-K400+VS: 35.29 65.92 14.41
Slow-D, MoDist-K400+VS: 44.67 74.38 18.40
Table 5: relationship way_speaking scene director writer year genre like_ratio view_count
OT, no scene: 50.00 34.57 32.56 37.38 26.55 25.73 49.55 0.396 4.559
CVRL, no scene: 50.95 32.86 32.56 37.76 27.26 25.31 48.17 0.444 4.600
MoDist, no scene: 49.52 33.57 30.70 40.56 23.10 26.57 49.26 0.458 4.506
no instances, Sup: 52.38 34.37 26.51 23.18 5.36 18.88 47.37 0.595 4.061
no instances, Ours: 52.38 33.07 36.98 42.43 23.93 35.24 48.11 0.375 4.653
OT, Ours: 50.95 34.07 44.19 40.19 31.43 29.65 51.15 0.353 4.886
"""


def _read(text: str) -> dict[int, dict[str, dict[str, PaperValue]]]:
    """Table -> row -> column -> number."""
    tables: dict[int, dict[str, dict[str, PaperValue]]] = {}
    for line in text.strip().splitlines():
        row, _, cells = line.rpartition(": ")
        if row.startswith("Table "):
            number, columns = int(row.removeprefix("Table ")), cells.split()
            tables[number] = {}
            continue
        printed = [cell.partition("±") for cell in cells.split()]
        values = [PaperValue(float(v), float(error) if error else None, number, row) for v, _, error in printed]
        tables[number][row] = dict(zip(columns, values, strict=True))
    return tables


PAPER_TABLES = _read(_PRINTED)
# what differs in Table 2's rows
_ABLATION = dict(
    zip(
        ("mask_sizes=1", "mask_sizes=1,2", "", "mask_sizes=1,2,3,4", "token_stride=1.0", "token_stride=3.0")
        + ("loss=l2", "sampling=max_discrepancy"),
        PAPER_TABLES[2],
        strict=True,
    )
)
BEST = "mask-123"  # our row of Table 2 that is Table 1's best
_NETWORKS = {"slow_d_r50": "Slow-D", "slow_r50": "Slow", "i3d_nl_r50": "I3D"}
_METHODS = {"cvrl": "CVRL", "modist": "MoDist", "supervised": "Sup"}
_SETS = {"k400": "K400", "vidsitu": "VS"}
_TXE = {"none": "", "scratch": "N", **{f"masked-event {k}": f"MaskPred-{v}" for k, v in _SETS.items()}}
_TXE["masked-event lvu"] = "MaskPred-LVU"
TUNED = "verbs-vidsitu"
_BEST = {"backbone": "slow_d_r50 cvrl-k400", "txe": "masked-event lvu"}  # what Table 2 varies
_INSTANCES = {  # Table 5's rows by what the instances' and the events' networks had been through
    ("slow_d_r50 supervised-k400 masked-instances", "none", "none"): "OT, no scene",
    ("slow_d_r50 cvrl-k400", "none", "none"): "CVRL, no scene",
    ("slow_d_r50 modist-k400", "none", "none"): "MoDist, no scene",
    ("none", "slow_d_r50 supervised-k400", "none"): "no instances, Sup",
    ("none", *_BEST.values()): "no instances, Ours",
    ("slow_d_r50 supervised-k400 masked-instances", *_BEST.values()): "OT, Ours",
}


def paper_value(task: str, metric: str, row: str, origin: Mapping[str, str]) -> PaperValue | None:
    """The printed number of the row that ours repeats, None where the paper has no such row.

    Args:
        task: verbs, relations, roles, or an LVU task.
        metric: the metric's name in `results.jsonl`.
        row: a row of the stages' tables, such as backbone, scratch, pretrained or human.
        origin: what its networks were and had been through (`core.results.Result`).
    """
    column = task if task in LVU_TASKS and metric == LVU_TASKS[task].metric else metric
    number, name = _row(task, row, origin)
    return PAPER_TABLES.get(number, {}).get(name, {}).get(column)


def printed_row(number: int, row: str) -> str:
    """A row of a table as the paper prints it: numbers with their standard errors."""
    found = PAPER_TABLES[number][row]
    places = {column: 3 if column in ("like_ratio", "view_count") else 2 for column in found}
    errors = {column: f"±{one.error:.2f}" if one.error is not None else "" for column, one in found.items()}
    return "  ".join(f"{one.value:.{places[column]}f}{errors[column]}" for column, one in found.items())


def _row(task: str, row: str, origin: Mapping[str, str]) -> tuple[int, str]:
    """The paper's table, and the name of its row; no table has an empty name."""
    backbone, txe = origin.get("backbone", ""), origin.get("txe")
    if task in LVU_TASKS:
        return 5, _INSTANCES.get((origin.get("instances", ""), backbone, txe or ""), "")
    if task == "roles":
        if row in ("human", "gpt2"):
            return 1, {"human": "Human (up. bound)", "gpt2": "GPT2"}[row]
        best, _, other = (txe or "").partition(_BEST["txe"])
        if not best and backbone == _BEST["backbone"] and (other or row == BEST):
            return 2, _ABLATION.get(other.strip(), "")
        return 1, _role_row(backbone, txe or "")
    network, phases = _parts(backbone)
    tuned, trained = TUNED in phases, [phase for phase in phases if phase != TUNED]
    if task == "verbs" and txe is None:
        # a backbone that is tuned on verbs, not a head on its features
        return 4, f"{network}, {_pretraining(trained) or '-'}"
    if task == "relations" and txe in _TXE:
        return 3, _relation_row(network, trained, tuned, _TXE[txe])
    return 0, ""


def _parts(backbone: str) -> tuple[str, list[str]]:
    name, *phases = backbone.split() or [""]
    return _NETWORKS.get(name, "?"), phases


def _pretraining(phases: list[str]) -> str:
    """`CVRL-K400+VS` of [cvrl-k400, cvrl-vidsitu]; `?` where the paper has no name for it, empty for none."""
    methods = {phase.rpartition("-")[0] for phase in phases}
    sets = [_SETS.get(phase.rpartition("-")[2], "?") for phase in phases]
    method = methods.pop() if len(methods) == 1 else ""
    return f"{_METHODS.get(method, '?')}-{'+'.join(sets)}" if phases else ""


def _role_row(backbone: str, txe: str) -> str:
    network, phases = _parts(backbone)
    if network == "I3D":
        # the numbers of VidSitu's authors, on features of a backbone that was tuned on verbs
        phases = phases[:-1] if phases[-1:] == [TUNED] else ["?-?"]
    context = _TXE.get(txe, "?")
    model = f"{network}+{'TxE+' if context else ''}TxD"
    return ", ".join(filter(None, [model, _pretraining(phases), context]))


def _relation_row(network: str, phases: list[str], tuned: bool, context: str) -> str:
    """Table 3 has supervised backbones of K400, others of K400 and then VidSitu, and TxE of LVU, on tuned ones."""
    names = {"Sup-K400": "Supervised", "CVRL-K400+VS": "CVRL", "MoDist-K400+VS": "MoDist", "": "No"}
    pretraining = names.get(_pretraining(phases), "?")
    before = {"": (), "N": ("TxE No",), "MaskPred-LVU": ("TxE MaskPred",)}.get(context, ("?",))
    return ", ".join(
        [f"{network}{'+TxE' if context else ''}", pretraining, *(["vb finetune"] if tuned else []), *before]
    )
