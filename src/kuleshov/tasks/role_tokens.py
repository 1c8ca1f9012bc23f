"""Role descriptions as token sequences: byte-level BPE with verbs and argument tags as single tokens.

A sequence is the event's verb id, then for each role a tag and the role's text, then the end:
`<push.01> <Arg0> woman in a red dress <Arg1> the door <AScn> in a kitchen <end>`.
Any sequence of tokens can be read back: nothing that a decoder writes fails to parse.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.core.files import read_text
from kuleshov.datasets.vidsitu_format import ROLES


class RoleTokens:
    """Encodes (verb, {role: text}) as token ids, and reads token ids back.

    Ids: the byte pairs first, then padding, end, the role tags, the unknown verb, the verbs. Texts are
    encoded by the byte pairs alone, so no text can spell a tag.

    Args:
        tokenizer: a byte-level BPE without tokens of its own for verbs and roles.
        verbs: verb ids, such as `push.01`.
        roles: short role names of VidSitu's, such as `Arg0`.
    """

    def __init__(self, tokenizer: Tokenizer, verbs: Iterable[str], roles: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self.verbs = sorted(set(verbs))
        self.roles = sorted(set(roles), key=ROLES.index)
        self.pad = tokenizer.get_vocab_size(with_added_tokens=False)
        self.end = self.pad + 1
        self._tags = {role: self.end + 1 + i for i, role in enumerate(self.roles)}
        self._other_verb = self.end + 1 + len(self.roles)
        self._verbs = {verb: self._other_verb + 1 + i for i, verb in enumerate(self.verbs)}
        self._role_of = {token: role for role, token in self._tags.items()}

    @classmethod
    def train(cls, texts: Iterable[str], verbs: Iterable[str], roles: Iterable[str], size: int = 8000) -> "RoleTokens":
        """Learn byte pairs of the training texts: `size` tokens at most, 256 bytes and the merges."""
        tokenizer, alphabet = _byte_level(BPE(byte_fallback=False)), sorted(ByteLevel.alphabet())
        trainer = BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, initial_alphabet=alphabet)
        # training counts are order-free only if the input is: sorted texts give the same file on any machine
        tokenizer.train_from_iterator(sorted(f" {text}" for text in texts), trainer)
        return cls(tokenizer, verbs, roles)

    @classmethod
    def gpt2(cls, folder: str | Path, verbs: Iterable[str], roles: Iterable[str]) -> "RoleTokens":
        """GPT-2's own byte pairs (`vocab.json` and `merges.txt` in a local folder), with verbs and roles.

        Raises:
            MissingDataError: a file is not there.
        """
        files = [Path(folder) / name for name in ("vocab.json", "merges.txt")]
        for file in files:
            if not file.is_file():
                raise MissingDataError("GPT-2's vocabulary", file.absolute(), "download GPT-2 and name its folder")
        return cls(_byte_level(BPE.from_file(*map(str, files))), verbs, roles)

    @classmethod
    def load(cls, path: str | Path) -> "RoleTokens":
        """Read a file with `to_text`.

        Raises:
            MissingDataError: no such file.
            FormatError: not a tokenizer.
        """
        text = read_text(path, "role vocabulary", "it is written by train-roles")
        try:
            return cls.from_text(text)
        except Exception as error:  # the tokenizers package raises bare Exception
            raise FormatError(path, f"not a role vocabulary ({error})") from error

    @classmethod
    def from_text(cls, text: str) -> "RoleTokens":
        """The tokens whose file holds this text."""
        stored = json.loads(text)
        return cls(Tokenizer.from_str(json.dumps(stored["byte_pairs"])), stored["verbs"], stored["roles"])

    def to_text(self) -> str:
        """The file's text, the same for the same training texts."""
        stored = {"byte_pairs": json.loads(self._tokenizer.to_str()), "roles": self.roles, "verbs": self.verbs}
        return json.dumps(stored, ensure_ascii=False)

    def __len__(self) -> int:
        return self._other_verb + 1 + len(self.verbs)

    @property
    def never_written(self) -> list[int]:
        """Tokens that may not occur after the verb: padding and verbs."""
        return [self.pad, *range(self._other_verb, len(self))]

    def verb(self, verb: str) -> int:
        """The token of a verb id; verbs not met in training share one token."""
        return self._verbs.get(verb, self._other_verb)

    def encode(self, verb: str, roles: Mapping[str, str], longest: int = 60, sort: bool = True) -> list[int]:
        """Token ids of an event, at most `longest`, the verb and the end included; a text that does not fit is cut.

        Roles ({short name: text}) without a tag and empty texts are left out; `sort` puts the others into one order.
        """
        ids = [self.verb(verb)]
        for role in sorted(roles, key=ROLES.index) if sort else roles:
            if role in self._tags and roles[role]:
                text = self._tokenizer.encode(f" {roles[role]}", add_special_tokens=False).ids
                ids += [self._tags[role], *text]
        return [*ids[: longest - 1], self.end]

    def decode(self, ids: Sequence[int]) -> dict[str, str]:
        """{role: text} of any token ids: reading stops at the end; the first text of a repeated role stays.

        Tokens before the first tag, padding and verbs are passed over; bytes that are no UTF-8 become U+FFFD.
        """
        skipped = set(self.never_written)
        found: dict[str, list[int]] = {}
        current: list[int] | None = None
        for token in ids:
            if token == self.end:
                break
            if token in self._role_of:
                current = []
                found.setdefault(self._role_of[token], current)
            elif current is not None and token not in skipped:
                current.append(token)
        texts = {role: self._tokenizer.decode(tokens, skip_special_tokens=False) for role, tokens in found.items()}
        return {role: text.removeprefix(" ") for role, text in texts.items()}


def _byte_level(model: BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer
