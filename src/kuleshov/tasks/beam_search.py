"""Writing token sequences: greedy and beam search, all sequences together, with cached keys and values.

At each step the 2b best continuations of an event's b hypotheses are looked at: those that end within the best b
are finished, the best b that do not end live on. An event is done when b are finished or the length is used up,
where every hypothesis is ended. Score: sum of log-probabilities divided by
(number of tokens, the end included) ** length_penalty.
"""

import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError
from kuleshov.tasks.gpt2 import Gpt2Decoder
from kuleshov.tasks.role_decoder import RoleDecoder


@torch.inference_mode()
def beam_search(
    decoder: RoleDecoder | Gpt2Decoder,
    first: Tensor,
    memory: Tensor | None,
    *,
    end: int,
    pad: int,
    never: list[int],
    beam: int = 1,
    longest: int = 60,
    length_penalty: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The best sequence of each event, all searched at once; with a beam of 1, greedily.

    Args:
        decoder: the model, in evaluation mode.
        first: (E,) long, the first tokens, which are given.
        memory: (E, M, width) what the decoder attends to, or None.
        end: id of the end.
        pad: id that fills the tokens after the end.
        never: ids that are never written.
        beam: b, hypotheses an event.
        longest: greatest number of tokens after the first, the end included.
        length_penalty: exponent of the length; 0 compares plain log-probabilities.

    Returns:
        Tokens (E, longest) long, what follows the first one, its end included, padded after it; and their scores (E,).

    Raises:
        KuleshovError: a beam or a length below 1.
    """
    if beam < 1 or longest < 1:
        raise KuleshovError(f"beam and longest must be at least 1, got {beam} and {longest}")
    events = first.shape[0]
    search = _Search(events, beam, longest, pad, end, length_penalty, first.device)
    if memory is not None and beam > 1:
        memory = memory.repeat_interleave(beam, dim=0)
    state = decoder.begin(events * beam, memory, longest)
    last = first.repeat_interleave(beam)
    forbidden = torch.tensor(never, dtype=torch.long, device=first.device)
    for position in range(longest):
        scores = decoder.step(last, state).float().log_softmax(-1)  # (A * b, V)
        scores.index_fill_(1, forbidden, -torch.inf)
        if position == longest - 1:  # nothing but the end
            scores[:, :end], scores[:, end + 1 :] = -torch.inf, -torch.inf
        last, rows = search.advance(scores, position)
        if last.shape[0] == 0:
            break
        if rows is not None:
            state.select(rows)
    return search.best_texts, search.best_scores


class _Search:
    """The hypotheses of all events; `active` are the events still searched, A of E."""

    def __init__(
        self, events: int, beam: int, longest: int, pad: int, end: int, penalty: float, device: torch.device
    ) -> None:
        self.beam, self.end, self.penalty = beam, end, penalty
        self.active = torch.arange(events, device=device)
        # the b copies of an empty hypothesis are one hypothesis: the others start impossible
        self.sums = torch.full((events, beam), -torch.inf, device=device)
        self.sums[:, 0] = 0.0
        self.alive = torch.full((events, beam, longest), pad, device=device)
        self.best_texts = torch.full((events, longest), pad, device=device)
        self.best_scores = torch.full((events,), -torch.inf, device=device)
        self.finished = torch.zeros(events, dtype=torch.long, device=device)

    def advance(self, scores: Tensor, position: int) -> tuple[Tensor, Tensor | None]:
        """Take (A * b, V) log-probabilities; return the new last tokens and which rows they go on from.

        The rows are None where every row goes on from itself.
        """
        vocabulary = scores.shape[1]
        whole = self.sums.unsqueeze(-1) + scores.unflatten(0, (-1, self.beam))  # (A, b, V)
        candidates = min(2 * self.beam, self.beam * vocabulary)
        best, place = whole.flatten(1).topk(candidates, dim=1)  # (A, 2b), best first
        parent, token = place // vocabulary, place % vocabulary
        ends = token == self.end
        self._finish(best, parent, ends, position)
        # the first b that do not end, in their order
        order = torch.arange(candidates, device=ends.device) + candidates * ends
        kept = order.topk(self.beam, dim=1, largest=False).indices
        self.sums = best.gather(1, kept).masked_fill(ends.gather(1, kept), -torch.inf)
        self.sums[self.finished[self.active] >= self.beam] = -torch.inf
        parent, token = parent.gather(1, kept), token.gather(1, kept)  # (A, b)
        if self.beam > 1:
            self.alive = self.alive.gather(1, parent.unsqueeze(-1).expand_as(self.alive))
        self.alive[:, :, position] = token
        return self._shrink(parent, token)

    def _finish(self, best: Tensor, parent: Tensor, ends: Tensor, position: int) -> None:
        ending = ends & best.isfinite()
        ending[:, self.beam :] = False
        self.finished[self.active] += ending.sum(1)
        scores = (best / float(position + 1) ** self.penalty).masked_fill(~ending, -torch.inf)  # (A, 2b)
        fresh, place = scores.max(1)
        better = (fresh > self.best_scores[self.active]).nonzero().flatten()
        texts = self.alive[better, parent[better, place[better]]]
        texts[:, position] = self.end
        self.best_scores[self.active[better]], self.best_texts[self.active[better]] = fresh[better], texts

    def _shrink(self, parent: Tensor, token: Tensor) -> tuple[Tensor, Tensor | None]:
        """Drop the events that are done, once they are a quarter of the active ones."""
        going = self.sums.isfinite().any(1).nonzero().flatten()
        count = self.active.shape[0]
        rows = torch.arange(count, device=parent.device)[:, None] * self.beam + parent  # (A, b)
        if 4 * (count - going.shape[0]) >= count:
            rows, token = rows[going], token[going]
            self.active, self.sums, self.alive = self.active[going], self.sums[going], self.alive[going]
        elif self.beam == 1:
            return token.flatten(), None
        return token.flatten(), rows.flatten()
