"""Role tokens: round trips, and nothing that fails to parse."""

import random

import pytest

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.datasets.vidsitu_format import ROLES
from kuleshov.tasks.role_tokens import RoleTokens

TEXTS = ["woman in a red dress", "man in a black suit", "the  door ", "in a kitchen", "éclair 中"] * 3


@pytest.fixture(scope="module")
def tokens() -> RoleTokens:
    return RoleTokens.train(TEXTS, ["push.01", "fall.01"], ["AScn", "Arg0", "Arg1", "AMnr"], size=300)


@pytest.mark.parametrize(
    "text",
    [
        "woman in a red dress",
        " two  spaces ",
        "naïve 中文 \U0001f600",
        "<role:Arg1> <pad>",
        "\ttab\nline",
        "unseen zebra!?",
    ],
)
def test_any_text_comes_back(tokens, text):
    roles = {"Arg0": text, "AScn": "in a kitchen"}
    assert tokens.decode(tokens.encode("push.01", roles, longest=200)) == roles


def test_verb_opens_and_end_closes_and_roles_stand_in_order(tokens):
    ids = tokens.encode("fall.01", {"AScn": "in a kitchen", "AMnr": "man", "Arg1": "door", "Arg0": "woman"})
    assert ids[0] == tokens.verb("fall.01") and ids[-1] == tokens.end and ids.count(tokens.end) == 1
    assert list(tokens.decode(ids)) == ["Arg0", "Arg1", "AMnr", "AScn"]


def test_tags_and_verbs_are_single_tokens(tokens):
    assert len(tokens.encode("push.01", {"Arg0": ""})) == 2
    text = len(tokens.encode("push.01", {"Arg0": "woman"})) - 3
    assert len(tokens.encode("push.01", {"Arg0": "woman", "AScn": "woman"})) == 2 + 2 * (1 + text)


def test_unknown_verbs_share_a_token_and_unknown_roles_are_left_out(tokens):
    assert tokens.verb("fly.01") == tokens.verb("swim.02") != tokens.verb("push.01")
    assert tokens.decode(tokens.encode("fly.01", {"Arg5": "north", "Arg0": "woman"})) == {"Arg0": "woman"}


def test_a_long_text_is_cut_and_still_ends(tokens):
    ids = tokens.encode("push.01", {"Arg0": "man in a black suit " * 20, "AScn": "in a kitchen"}, longest=10)
    assert len(ids) == 10 and ids[-1] == tokens.end
    assert list(tokens.decode(ids)) == ["Arg0"]


def test_any_tokens_parse(tokens):
    drawn = random.Random(0)
    for _ in range(300):
        ids = [drawn.randrange(len(tokens)) for _ in range(drawn.randrange(40))]
        found = tokens.decode(ids)
        assert set(found) <= set(ROLES)
        assert all(isinstance(text, str) for text in found.values())


def test_a_repeated_role_keeps_its_first_text(tokens):
    once = tokens.encode("push.01", {"Arg0": "woman"})
    again = tokens.encode("push.01", {"Arg0": "man"})
    assert tokens.decode(once[:-1] + again[1:]) == {"Arg0": "woman"}


def test_the_file_is_the_same_for_the_same_texts_in_any_order(tokens, tmp_path):
    again = RoleTokens.train(reversed(TEXTS), ["fall.01", "push.01"], ["Arg1", "Arg0", "AMnr", "AScn"], size=300)
    assert again.to_text() == tokens.to_text()
    (tmp_path / "tokens.json").write_text(tokens.to_text(), encoding="utf-8")
    read = RoleTokens.load(tmp_path / "tokens.json")
    roles = {"Arg0": "woman in a red dress"}
    assert len(read) == len(tokens) and read.encode("push.01", roles) == tokens.encode("push.01", roles)


def test_bad_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(MissingDataError, match="role vocabulary not found at .*tokens.json"):
        RoleTokens.load(tmp_path / "tokens.json")
    (tmp_path / "tokens.json").write_text("{}")
    with pytest.raises(FormatError, match="tokens.json: not a role vocabulary"):
        RoleTokens.load(tmp_path / "tokens.json")
    with pytest.raises(MissingDataError, match="GPT-2's vocabulary not found at .*vocab.json"):
        RoleTokens.gpt2(tmp_path, [], [])


def test_gpt2s_files_are_read(tmp_path):
    """A byte alphabet with one merge, in GPT-2's two files."""
    import json

    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = [*sorted(ByteLevel.alphabet()), "Ġw"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(alphabet)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ w\n")
    tokens = RoleTokens.gpt2(tmp_path, ["push.01"], ["Arg0", "AScn"])
    ids = tokens.encode("push.01", {"Arg0": "woman"})
    assert len(ids) == 1 + 1 + 5 + 1  # verb, tag, `Ġw` and four letters, end
    assert tokens.decode(ids) == {"Arg0": "woman"}
    assert len(tokens) == 257 + 2 + 2 + 1 + 1
