"""A pretrained GPT-2 as the language-only decoder of roles; needs the `gpt2` extra."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_utilities.core.imports import RequirementCache
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, MissingDataError, one_line


@dataclass
class Gpt2State:
    """GPT-2's cache of keys and values, None before the first token."""

    cache: Any = None

    def select(self, rows: Tensor) -> None:
        if self.cache is not None:
            self.cache.batch_select_indices(rows)


class Gpt2Decoder(nn.Module):
    """GPT-2 with tokens for verbs and roles; it sees no video (Radford et al., 2019).

    Args:
        folder: a local folder in the format of `transformers` (config.json, model.safetensors).
        vocabulary: V, GPT-2's own tokens and those added.

    Raises:
        KuleshovError: `transformers` is not installed, or the folder is no GPT-2.
        MissingDataError: the folder is not there.
    """

    def __init__(self, folder: str, vocabulary: int) -> None:
        super().__init__()
        installed = RequirementCache("transformers", "transformers")
        if not installed:
            raise KuleshovError(f"the GPT-2 row needs `pip install 'kuleshov[gpt2]'` ({one_line(str(installed))})")
        from transformers import GPT2LMHeadModel

        if not Path(folder).is_dir():
            raise MissingDataError("GPT-2", Path(folder).absolute(), "download GPT-2 and name its folder")
        try:
            self.gpt2 = GPT2LMHeadModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise KuleshovError(f"{folder} holds no GPT-2 in safetensors ({error})") from error
        self.gpt2.resize_token_embeddings(vocabulary)

    def memories(self, events: Tensor) -> None:
        """GPT-2 attends to no event."""

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """Next-token logits: tokens (R, L) -> (R, L, V)."""
        return self.gpt2(tokens).logits

    def begin(self, rows: int, memory: Tensor | None = None, longest: int | None = None) -> Gpt2State:
        return Gpt2State()

    def step(self, tokens: Tensor, state: Gpt2State) -> Tensor:
        """Read one token of each sequence (R,) and score the next: (R, V)."""
        made = self.gpt2(tokens.unsqueeze(1), past_key_values=state.cache, use_cache=True)
        state.cache = made.past_key_values
        return made.logits[:, -1]
