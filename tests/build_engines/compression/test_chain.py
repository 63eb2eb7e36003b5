"""A chain of steps in a recipe: read with its place in every error, run step by step, kept, gated and told."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors import SafetensorError

from build_engines.__main__ import main
from build_engines.compression import parts
from build_engines.compression.chain import _disk_faults
from build_engines.compression.finetune import STEP as FINETUNE
from build_engines.compression.parts import CompressEntry
from build_engines.compression.prune_heads import PruneHeads
from build_engines.encoder.recipe import load_encoder_recipe
from build_engines.errors import RecipeError, WorkspaceError
from build_engines.progress import Silent
from build_engines.recipe import load_recipe
from build_engines.stage import Work
from server.artifacts.repository import open_current, versions
from server.domain import RecommendRequest, RecommendResponse
from server.pipelines.loading import load_model
from tests.build_engines.mini_shop import RECIPE

ROOT = Path(__file__).parents[3]
CHAIN = """
[[compress]]
step = "prune_inner"
keep = 0.5
[[compress]]
step = "prune_rows"
keep = 0.5
[[compress]]
step = "finetune"
epochs = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mini.toml"
    path.write_text(RECIPE + CHAIN, encoding="utf-8")
    return path


def run(recipe: Path, workspace: Path, *sets: str) -> int:
    more = [part for one in sets for part in ("--set", one)]
    places = ["--workspace", str(workspace), "--repository", str(recipe.parent / "repository")]
    return main(["run", str(recipe), "--plain", *places, *more])


def test_entries_are_read_by_the_options_of_their_step(recipe: Path) -> None:
    """What fields an entry has depends on its step; --set reaches into an entry and adds one behind the last."""
    found = load_recipe(
        recipe, ["compress.0.keep=0.25", "compress.3.step=prune_heads", "compress.3.keep=1"]
    ).compress

    assert [one.step for one in found] == ["prune_inner", "prune_rows", "finetune", "prune_heads"]
    assert found[0].options.keep == 0.25 and found[3] == CompressEntry(
        step="prune_heads", options=PruneHeads(keep=1)
    )
    assert load_recipe(recipe, ["compress=[]"]).compress == ()
    assert load_recipe(recipe).parent().compress == ()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ["compress.1.step=prune_row"],
            r"compress.1.step.*'prune_row' is not known; did you mean 'prune_rows'",
        ),
        (["compress.1.step=prune_row"], "a recipe from a newer version"),
        (["compress.0.keap=2"], r"compress.0.keap is not known; did you mean 'keep'\? \(step prune_inner\)"),
        (
            ["compress.2.learning_rate=-1"],
            r"compress.2 with --set compress.2.learning_rate \(step finetune\).*-1",
        ),
        (["compress.2.epochs=many"], r"--set compress.2.epochs is 'many'"),
        (["compress.5.keep=2"], r"'5' is no entry; there are 0 to 2, and 3 is a new one"),
        (["compress.last.keep=2"], "'last' is no entry"),
        (["compress.3.keep=2"], r"compress.3.step is None; name a step"),
        (["compress.0=2"], "name a key of the entry"),
        (["compress=3"], r"write each of its entries under \[\[compress\]\]"),
    ],
)
def test_a_wrong_entry_is_named_with_file_number_and_field(
    recipe: Path, sets: Sequence[str], said: str
) -> None:
    """Whatever is wrong in a chain is found before anything runs, with its place."""
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe, sets)


def test_a_step_of_another_family_is_refused_by_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that makes no sense for an encoder says for whom it does."""
    for_others = dataclasses.replace(FINETUNE, families=("recommender", "decoder"))
    monkeypatch.setattr(parts, "find", lambda name: for_others)
    path = tmp_path / "support.toml"
    path.write_text(
        'kind = "encoder"\n[model]\nname = "x"\n[checkpoint]\nfolder = "x"\n[texts]\nsample_shop = true\n'
        '[[compress]]\nstep = "finetune"\n',
        encoding="utf-8",
    )
    with pytest.raises(
        RecipeError,
        match=r"compress.0: step 'finetune' is for recommender and decoder, not for this kind of recipe \(encoder\)",
    ):
        load_encoder_recipe(path)


@pytest.mark.timeout(300)
def test_a_chain_is_served_with_its_records_and_judged_against_the_whole_model(
    recipe: Path, mini_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What serves is the small network; its proof is against the model before the chain, in quality, speed and size."""
    assert run(recipe, mini_workspace) == 0, capsys.readouterr().err
    first = capsys.readouterr().err

    opened = open_current(recipe.parent / "repository", "mini")
    manifest = opened.manifest
    chain = manifest.provenance.chain
    assert [one.step for one in chain] == ["prune_inner", "prune_rows", "finetune"]
    assert chain[0].before["inner"] == 64 and chain[-1].after["inner"] == 32
    assert json.loads(chain[1].options)["keep"] == 0.5
    assert {item.kind for item in manifest.evidence} == {"quality", "speed", "size", "parity", "floor"}
    assert "compress: step 2 of 3, prune_rows" in first
    page = opened.path("report.html").read_text(encoding="utf-8")
    assert "What was made smaller" in page and "inner width" in page
    for item in next(one for one in manifest.evidence if one.kind == "size"), manifest.evidence[0]:
        assert item.passed
    _every_item_is_answered(opened)

    # The third step changes: the first two are not made again.
    assert run(recipe, mini_workspace, "compress.2.epochs=2") == 0
    again = capsys.readouterr().err
    assert again.count("compress: reused") == 2 and again.count("compress: done") == 1
    assert run(recipe, mini_workspace, "compress.2.epochs=2") == 0
    assert capsys.readouterr().err.count("compress: reused") == 3


def _every_item_is_answered(opened: object) -> None:
    loaded = load_model(opened, engine="onnxruntime")  # type: ignore[arg-type]
    ids = loaded.runner.catalogue.index.ids
    for item in [one for one in ids if one][:80]:
        requests = [RecommendRequest(history=(item,), k=5)]
        packed = loaded.runner.pack(requests)
        (answer,) = loaded.runner.unpack(packed, loaded.runner.run(packed), requests)
        assert isinstance(answer, RecommendResponse) and len(answer.item_ids) == 5


@pytest.mark.timeout(300)
def test_a_result_that_was_cut_short_is_made_again(
    recipe: Path, mini_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that lost its end is not taken for a model."""
    sets = ("compress=[{step='prune_inner', keep=16, multiple=8}]",)
    assert run(recipe, mini_workspace, *sets) == 0
    newest = max(mini_workspace.glob("compress/*/module.safetensors"), key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()

    assert run(recipe, mini_workspace, *sets) == 0
    assert "compress: done" in capsys.readouterr().err


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "{step='finetune', learning_rate=1e30}",
            "compress.0 (finetune)",
        ),
        ("{step='prune_heads', keep=2}", "compress.0 (prune_heads)"),
        ("{step='prune_inner', keep=99, multiple=1}", "compress.0 (prune_inner)"),
    ],
)
def test_a_step_that_cannot_be_done_ends_with_its_entry_and_a_sentence(
    recipe: Path, mini_workspace: Path, capsys: pytest.CaptureFixture[str], step: str, said: str
) -> None:
    """A run that diverges, or a cut that cuts nothing, says which entry it was; nothing is published."""
    code = run(recipe, mini_workspace, f"compress=[{step}]", "network.heads=1")
    told = capsys.readouterr().err
    assert code == 1 and said in told.splitlines()[-1], told
    assert versions(recipe.parent / "repository", "mini") == []


@pytest.mark.timeout(300)
def test_killed_in_a_step_the_chain_goes_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 while the last step trains: the steps before are reused, and nothing half-done is left."""
    workspace, sets = (
        tmp_path / "own",
        ["compress.2.epochs=400", "compress.2.checkpoint_every=1", "compress.2.patience=400"],
    )
    more = [part for one in sets for part in ("--set", one)]
    command = [
        sys.executable,
        "-m",
        "tests.build_engines.compression.run_mini",
        str(recipe),
        str(workspace),
        *more,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    deadline = time.monotonic() + 200
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        while not list(workspace.glob("compress/.*.scratch/*.pt")):
            assert process.poll() is None and time.monotonic() < deadline, (
                "it ended before it could be killed"
            )
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        process.send_signal(signal.SIGKILL)
    whole = [path for path in workspace.glob("compress/*") if not path.name.startswith(".")]
    assert len(whole) == 2 and all((path / "stage.json").is_file() for path in whole)

    done = subprocess.run(
        [*command[:5], "--set", "compress.2.epochs=1"],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compress: reused") == 2


def test_a_disk_that_fills_up_while_weights_are_written_is_told_as_one(tmp_path: Path) -> None:
    """Writers of weights have errors of their own; a person reads that the disk is full."""
    work = Work(folder=tmp_path, scratch=tmp_path, progress=Silent())
    with pytest.raises(OSError, match="No space left"), _disk_faults(work):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(OSError), _disk_faults(work):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    with pytest.raises(RuntimeError, match="something else"), _disk_faults(work):
        raise RuntimeError("something else")


@pytest.mark.timeout(300)
def test_a_full_disk_in_a_step_asks_for_space_and_keeps_what_was_finished(
    recipe: Path, mini_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The step that could not be written is named, and the steps before it stay."""
    from build_engines.compression.families import recommender

    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(recommender, "save_file", full)
    code = run(recipe, mini_workspace, "compress=[{step='prune_inner', keep=24, multiple=8}]")

    told = capsys.readouterr().err
    assert code == WorkspaceError.exit_code and "free some space and run this again" in told
