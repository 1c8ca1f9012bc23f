"""Decoding speed: events together and with cached keys and values, against without cache, one by one.

    python benchmarks/bench_decoding.py [--events 64] [--floor 5]

Both write the same number of tokens an event (the end is made unlikely), greedily, at the demo's size and at the
paper's. Exits with 1 where a ratio is below the floor, or tokens differ.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from lines import Line, finish
from torch import Tensor

from kuleshov.tasks.beam_search import beam_search
from kuleshov.tasks.role_decoder import RoleDecoder

PAD, END, VERB = 0, 1, 2
SIZES = {
    "demo": {"vocabulary": 600, "width": 96, "layers": 2, "heads": 4, "feedforward": 192, "bottleneck": 0},
    "paper": {"vocabulary": 8000, "width": 1024, "layers": 3, "heads": 8, "feedforward": 2048},
}


def plain(network: RoleDecoder, first: Tensor, memory: Tensor, longest: int) -> list[list[int]]:
    """Greedy decoding the plain way: an event after the other, all tokens read again at every step."""
    texts = []
    for event in range(first.shape[0]):
        tokens = [int(first[event])]
        while len(tokens) <= longest and tokens[-1] != END:
            scores = network(torch.tensor([tokens]), memory[event : event + 1])[0, -1]
            scores[PAD] = -torch.inf
            tokens.append(int(scores.argmax()) if len(tokens) < longest else END)
        texts.append(tokens[1:])
    return texts


def seconds(function, *arguments, **options) -> tuple[float, object]:
    """Time and result of one call."""
    started = time.perf_counter()
    made = function(*arguments, **options)
    return time.perf_counter() - started, made


@torch.inference_mode()
def compare(size: str, events: int, measured: int, longest: int) -> tuple[float, float, bool]:
    """Tokens a second together and one by one, and whether the `measured` events' tokens are equal."""
    torch.manual_seed(0)
    network = RoleDecoder(memory_width=256, longest=longest + 1, **SIZES[size]).eval()
    network.output.bias[END] -= 100.0
    memory = network.memories(torch.randn(events, 1, 256))
    first = torch.full((events,), VERB)
    options = {"end": END, "pad": PAD, "never": [PAD], "longest": longest}
    beam_search(network, first[:2], memory[:2], **options)
    ours, (written, _) = seconds(beam_search, network, first, memory, **options)
    theirs, texts = seconds(plain, network, first[:measured], memory[:measured], longest)
    found = [[token for token in row if token != PAD] for row in written[:measured].tolist()]
    tokens = sum(map(len, texts))
    return events * longest / ours, tokens / theirs, found == texts


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=64, help="events written together (default: %(default)s)")
    parser.add_argument("--longest", type=int, default=30, help="tokens an event (default: %(default)s)")
    parser.add_argument("--floor", type=float, default=5.0, help="least ratio (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    args = parser.parse_args()
    lines, equal = [], True
    for size, measured in (("demo", args.events), ("paper", min(8, args.events))):
        found = [compare(size, args.events, measured, args.longest) for _ in range(args.rounds)]
        ours, theirs, same = zip(*found, strict=True)
        equal &= all(same)
        job = f"{args.events} events' roles written, {size} size"
        lines.append(Line(job, "tokens/s", ours, "one by one, nothing cached", theirs, aim=args.floor))
    if not equal:
        print("the two ways write other tokens", file=sys.stderr)
    return finish(lines, args.lines) | int(not equal)


if __name__ == "__main__":
    sys.exit(main())
