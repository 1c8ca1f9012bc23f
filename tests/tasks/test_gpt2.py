"""The GPT-2 row, with a tiny GPT-2 of random weights; needs the package transformers."""

import json

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from kuleshov.tasks.beam_search import beam_search
from kuleshov.tasks.event_task import load_task
from kuleshov.tasks.gpt2 import Gpt2Decoder
from kuleshov.training.lightning_cli import main

transformers = pytest.importorskip("transformers", reason="the gpt2 extra is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as GPT-2 comes in: config.json, model.safetensors, vocab.json, merges.txt."""
    path = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=257, n_positions=80, n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    alphabet = [*sorted(ByteLevel.alphabet()), "Ġw"]
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(alphabet)}))
    (path / "merges.txt").write_text("#version: 0.2\nĠ w\n")
    return path


@pytest.mark.parametrize("beam", [1, 3])
def test_cached_and_batched_equal_uncached_one_by_one(folder, beam):
    torch.manual_seed(0)
    writer = Gpt2Decoder(str(folder), 270).eval()
    first = torch.arange(260, 270)
    options = {"end": 1, "pad": 0, "never": [0], "beam": beam, "longest": 8}
    together, _ = beam_search(writer, first, None, **options)
    for event in range(10):
        alone, score = beam_search(writer, first[event : event + 1], None, **options)
        assert alone[0].tolist() == together[event].tolist()
        text = [int(first[event]), *(int(t) for t in alone[0] if t != 0)]
        scores = writer(torch.tensor([text])).detach().log_softmax(-1)[0]
        total = sum(float(scores[i, token]) for i, token in enumerate(text[1:]))
        assert float(score[0]) == pytest.approx(total / (len(text) - 1), abs=1e-4)


def test_the_row_runs_through_the_command_line(folder, words, tmp_path, lines_of):
    more = ["--model.init_args.context=language", f"--model.init_args.gpt2={folder}"]
    more += [f"--data.init_args.gpt2={folder}", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
    main(words("roles", tmp_path, *more))
    assert ("gpt2", "CIDEr") in lines_of(tmp_path)
    again = load_task(tmp_path / "weights/roles.safetensors")
    roles = json.loads((tmp_path / "predictions/valid.json").read_text())[0]["vb_output"].values()
    written = again.write_roles(torch.zeros(5, 16), [event["vb_id"] for event in roles])
    assert written == [{r: text for r, text in event.items() if r != "vb_id"} for event in roles]
