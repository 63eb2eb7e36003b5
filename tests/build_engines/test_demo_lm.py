"""The demonstration model: its tokenizer is made for copying, it is trained again by one command, and it copies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from build_engines.__main__ import DEMO_FOLDER, main
from build_engines.models.demo_lm import DemoSizes
from build_engines.progress import Silent
from build_engines.text.checkpoint import open_checkpoint
from build_engines.text.demo import DemoPlan, demo_pairs, train_demo
from build_engines.text.finetune import load_model
from build_engines.text.recipe_parts import SampleCopyPart
from build_engines.text.sample_pairs import sample_pairs
from build_engines.text.tokenizer import train_tokenizer
from build_engines.text.tuning_parts import TuningConfig

SMALL = DemoPlan(
    num_products=80,
    rounds=1,
    heldout_every=8,
    vocab_size=400,
    training=TuningConfig(
        method="full",
        optimizer="muon",
        epochs=1,
        batch_tokens=4096,
        learning_rate=4e-3,
        evaluate_every=5,
        bfloat16=False,
    ),
)
SIZES = DemoSizes(
    vocab_size=400, dim=32, layers=1, heads=1, kv_heads=1, head_dim=32, hidden=32, max_context=1024
)
SHIPPED = pytest.mark.skipif(
    not (DEMO_FOLDER / "model.safetensors").is_file(), reason="train-demo was not run"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    pairs, _ = demo_pairs(SMALL)
    return train_tokenizer(
        (text for pair in pairs for text in (str(pair.prompt), pair.answer)), vocab_size=400
    )


@given(text=st.text(max_size=80))
def test_every_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    """Any text, in any script, with any space in it, comes back as it was."""
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@given(number=st.integers(0, 10**9))
def test_digits_are_tokens_of_their_own(tokenizer: Tokenizer, number: int) -> None:
    """A number is as many tokens as digits, so it is copied digit by digit."""
    assert [tokenizer.decode([one]) for one in tokenizer.encode(str(number)).ids] == list(str(number))


@given(
    name=st.from_regex(r"[A-Z][a-z]{1,9}", fullmatch=True),
    colour=st.sampled_from(["沙色", "森林绿", "藏青色"]),
)
def test_a_fact_is_the_same_tokens_wherever_it_stands(tokenizer: Tokenizer, name: str, colour: str) -> None:
    """After a space, a quote or a colon, and inside a Chinese sentence: what is copied looks the same."""
    for fact, frames in (
        (name, ("title: {}\n", '{{"headline": "{} x"', "The {}.")),
        (colour, ("颜色: {}\n", "，{}款。")),
    ):
        alone = tokenizer.encode(fact).ids
        for frame in frames:
            ids = tokenizer.encode(frame.format(fact)).ids
            assert any(ids[at : at + len(alone)] == alone for at in range(len(ids))), frame


def test_training_again_goes_on_after_a_kill_and_writes_a_folder_that_others_read(tmp_path: Path) -> None:
    """Stopped at its first checkpoint and run again: the same model; transformers loads it, tokenizer and all."""

    class Stopped(Silent):
        def step(self, what: str, done: float, total: float, note: str = "") -> None:
            if done == 6:
                raise KeyboardInterrupt

    for name in ("once", "twice"):
        (tmp_path / f"{name}.scratch").mkdir()
    train_demo(SMALL, tmp_path / "once", Silent(), scratch=tmp_path / "once.scratch", sizes=SIZES)
    with pytest.raises(KeyboardInterrupt):
        train_demo(SMALL, tmp_path / "twice", Stopped(), scratch=tmp_path / "twice.scratch", sizes=SIZES)
    assert not (tmp_path / "twice").exists()
    train_demo(SMALL, tmp_path / "twice", Silent(), scratch=tmp_path / "twice.scratch", sizes=SIZES)

    once, twice = (load_model(tmp_path / name, "qwen3") for name in ("once", "twice"))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))
    assert (tmp_path / "once" / "tokenizer.json").read_bytes() == (
        tmp_path / "twice" / "tokenizer.json"
    ).read_bytes()
    read = AutoTokenizer.from_pretrained(str(tmp_path / "once"))
    checkpoint = open_checkpoint(tmp_path / "once")
    asked = [
        {"role": "system", "content": "Rules."},
        {"role": "user", "content": "title: Ärmel 沙色 12\ncopy:\n"},
    ]
    assert (
        checkpoint.encode_chat(asked)
        == read.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    )
    assert checkpoint.encode_chat(asked) == checkpoint.codec.encode("title: Ärmel 沙色 12\ncopy:\n")
    assert checkpoint.eos_ids == (read.eos_token_id,)
    history = json.loads((tmp_path / "once" / "training.json").read_text(encoding="utf-8"))
    assert history["plan"]["corpus_seed"] == SMALL.corpus_seed
    assert history["curve"][-1]["heldout_loss"] < history["curve"][0]["heldout_loss"]


def test_no_product_is_learnt_from_and_held_out() -> None:
    """The held-out loss is of products that the model has never seen, under any name."""
    pairs, heldout = demo_pairs(SMALL)

    assert not {pair.group for pair in pairs} & {pair.group for pair in heldout}
    assert len(heldout) == 80 // 8 * 2


def test_the_command_line_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """``train-demo --help`` says how long it takes."""
    with pytest.raises(SystemExit):
        main(["train-demo", "--help"])

    assert "half an hour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dim": 100}, "dim is 100; use a multiple of 32"),
        ({"kv_heads": 3}, "kv_heads is 3, must divide heads"),
    ],
)
def test_sizes_that_do_not_go_together_are_named(changes: dict[str, Any], sentence: str) -> None:
    """Name, value, and what to use."""
    with pytest.raises(ValueError, match=sentence):
        DemoSizes(vocab_size=400, **changes)


@SHIPPED
def test_the_shipped_model_is_small_and_says_what_it_is() -> None:
    """Fewer than 15 million parameters, at most 25 MB, and a README that calls it a demonstration."""
    checkpoint = open_checkpoint(DEMO_FOLDER)

    assert checkpoint.parameters < 15_000_000
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) <= 25_000_000
    assert "demonstration" in (DEMO_FOLDER / "README.md").read_text(encoding="utf-8").lower()
    assert checkpoint.chat


@SHIPPED
@pytest.mark.timeout(300)
def test_the_shipped_model_copies_facts_from_records_it_never_saw() -> None:
    """Greedy copy of 24 held-out records: well formed, and nearly every number and name in it is the record's."""
    checkpoint = open_checkpoint(DEMO_FOLDER)
    model = load_model(DEMO_FOLDER, "qwen3").eval()
    pairs = sample_pairs(SampleCopyPart(every=40, seed=11, rounds=1), chat=False)[:24]
    right = said = formed = 0
    for pair in pairs:
        prompt = str(pair.prompt)
        ids = torch.tensor([checkpoint.codec.encode(prompt)])
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=220, do_sample=False
            )
        text = checkpoint.codec.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
        try:
            copy = json.loads(text)
        except ValueError:
            continue
        formed += set(copy) == {"headline", "description", "bullets"}
        told = prompt.lower()
        for fact in re.findall(
            r"\d+(?:\.\d+)?|(?<=[a-z] )[A-Z][a-z]+", "\n".join([copy["headline"], copy["description"]])
        ):
            said += 1
            right += fact.lower() in told

    assert formed >= 23
    assert right >= 0.97 * said > 0
