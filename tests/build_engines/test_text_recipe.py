"""From a text recipe to a published version: proof, reuse, refusal, kill, rollback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from build_engines.__main__ import main
from build_engines.errors import RecipeError
from build_engines.recipe import RECIPES
from build_engines.recipe_kind import recipe_kind
from build_engines.stage_names import TEXT_STAGES as ALL_STAGES
from build_engines.text.publish import replay_text
from build_engines.text.recipe import load_text_recipe
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, read_golden, write_golden
from server.artifacts.repository import current_version, open_current, versions
from server.pipelines.text_loading import load_text_model
from tests.build_engines.tiny_text import save_tiny_checkpoint

TEXT_STAGES = tuple(one for one in ALL_STAGES if one != "text-compress")  # the recipe names no steps
ROOT = Path(__file__).parents[2]
RECIPE = """\
kind = "text"
[model]
name = "tiny-copy"
demonstration = true
[checkpoint]
folder = "checkpoint"
[data]
max_tokens = 500
[data.sample_copy]
num_products = 120
rounds = 1
[split]
gate_share = 0.2
calibration_share = 0.1
validation_share = 0.1
max_gate_pairs = 16
max_calibration_pairs = 8
[finetune]
method = "full"
optimizer = "muon"
epochs = 1
batch_tokens = 2048
learning_rate = 4e-3
checkpoint_every = 3
evaluate_every = 10
bfloat16 = false
[package]
variant = "int8"
max_context = 512
max_chunk = 64
[gate]
max_perplexity_rise = 0.2
min_speedup = 0.01
batch_sizes = [1, 2]
rounds = 10
reference_pairs = 2
samples = 1
"""


class Person:
    """Somebody at a command line, in a folder of their own."""

    def __init__(
        self, home: Path, workspace: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.repository, self.workspace = home / "model_repository", workspace
        self.recipe = home / "tiny.toml"
        self.recipe.write_text(RECIPE.replace('"checkpoint"', json.dumps(str(checkpoint))), encoding="utf-8")
        self._capsys = capsys

    def types(self, command: str, *more: str) -> tuple[int, str, str]:
        """Run one command; its exit code, its results, what was said on the way."""
        arguments = [command, *more, "--repository", str(self.repository)]
        if command in ("run", "status"):
            arguments += [str(self.recipe), "--workspace", str(self.workspace)]
        self._capsys.readouterr()
        code = main(arguments)
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint; read only."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint").folder


@pytest.fixture(scope="module")
def text_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of stages, shared: they are keyed by what they depend on."""
    return tmp_path_factory.mktemp("text-workspace")


@pytest.fixture
def person(
    tmp_path: Path, text_workspace: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> Person:
    """Somebody with a repository of their own."""
    return Person(tmp_path, text_workspace, tiny_checkpoint, capsys)


@pytest.mark.timeout(300)
def test_a_checkpoint_becomes_a_version_with_its_proof(person: Person) -> None:
    """One command: fine-tuned, quantized, held against transformers and its parent, and published with its report."""
    code, _, said = person.types("run")

    assert code == 0, said
    opened = open_current(person.repository, "tiny-copy")
    manifest = opened.manifest
    assert manifest.task == "text_generation"
    assert {item.kind for item in manifest.evidence} == {"quality", "speed", "size", "parity", "floor"}
    assert [(one.kind, one.file, one.precision, one.proven) for one in manifest.targets] == [
        ("onnxruntime", "model.onnx", "int8", "gated")
    ]
    assert manifest.limits["max_context"] == 512 and manifest.limits["max_chunk"] == 64
    assert manifest.flags == ("demonstration",)
    assert manifest.calibration is not None and manifest.calibration.samples == 8
    assert {"perplexity", "parameters", "size_bytes"} <= set(manifest.figures)
    assert set(manifest.provenance.durations_s) == set(TEXT_STAGES) - {"publish"}
    listed = {entry.path for entry in manifest.files}
    assert {"model.onnx", "tokenizer.json", "chat_template.jinja", "config.json", "golden.npz"} <= listed
    report = msgspec.json.decode(opened.path("report.json").read_bytes())
    assert report["best"] < report["before"]
    assert report["samples"]
    assert "<svg" in opened.path("report.html").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
def test_a_version_of_two_graphs_is_gated_in_each_and_in_both_and_is_served(person: Person) -> None:
    """INT8 and INT4 over one cache: perplexity by each and in turn, golden texts of both, and the server opens both."""
    code, _, said = person.types("run", "--set", "package.variant=int8+int4")

    assert code == 0, said
    opened = open_current(person.repository, "tiny-copy")
    manifest = opened.manifest
    assert [(one.file, one.precision, one.entry, one.proven) for one in manifest.targets] == [
        ("model.onnx", "int8", "masked", "gated"),
        ("light.onnx", "int4", "light", "gated"),
    ]
    rises = [item.name for item in manifest.evidence if item.name.startswith("perplexity rise")]
    assert len(rises) == 3 and {name.partition(", ")[2] for name in rises} == {
        "", "answers in its own graph", "answers in both graphs in turn",
    }  # fmt: skip
    model = load_text_model(opened)
    assert model.info.precision == "int8+int4" and model.engine.limits.light
    assert model.costs is not None and model.costs.light
    model.engine.close()

    golden = read_golden(opened.path(GOLDEN_FILE))
    wrong = {**golden.outputs, "own_token_ids": golden.outputs["token_ids"] * 0 + 3}
    write_golden(opened.folder / GOLDEN_FILE, dataclasses.replace(golden, outputs=wrong))
    with pytest.raises(ArtifactError, match="golden replay differs"):
        replay_text(opened)


@pytest.mark.timeout(300)
def test_a_plan_for_a_gpu_is_built_beside_what_serves_here(person: Person) -> None:
    """By the real builder, with no GPU: listed as built and not as gated, and the server here opens what it can run."""
    pytest.importorskip("tensorrt_rtx")
    target = 'compile.targets=["onnxruntime", "tensorrt_rtx:sm86"]'

    code, _, said = person.types("run", "--set", target, "--set", "package.plan_batch=2")

    assert code == 0, said
    opened = open_current(person.repository, "tiny-copy")
    own, plan = opened.manifest.targets
    assert (own.kind, own.proven, plan.kind, plan.proven) == ("onnxruntime", "gated", "tensorrt_rtx", "built")
    assert (plan.file, plan.capability) == ("tensorrt_rtx/int8.sm86.plan", "sm86")
    assert "tensorrt_rtx" in "".join(plan.built_with) and opened.path(plan.file).stat().st_size > 10_000
    load_text_model(opened).engine.close()


@pytest.mark.timeout(300)
def test_the_same_recipe_again_makes_and_publishes_nothing(person: Person) -> None:
    """Every stage is reused, the version that is there stays, and ``status`` and ``list`` say so."""
    person.types("run")

    code, _, said = person.types("run")

    assert code == 0
    assert said.count("reused") == len(TEXT_STAGES) - 1
    assert "tiny-copy version 1 was published before and serves" in said
    assert versions(person.repository, "tiny-copy") == ["1"]
    assert person.types("status")[1].count("done") == len(TEXT_STAGES) - 1
    assert "demonstration" in person.types("list")[1]


@pytest.mark.timeout(300)
def test_a_later_knob_keeps_earlier_stages_and_rollback_goes_back(person: Person) -> None:
    """Another limit trains and packages nothing; the version before is one command away, and verified."""
    person.types("run")

    code, _, moved = person.types("run", "--set", "gate.rounds=11")
    back = person.types("rollback", "tiny-copy")
    verified = person.types("verify", "tiny-copy", "--version", "2")

    assert code == 0, moved
    assert [line.split(":")[0] for line in moved.splitlines() if "reused" in line] == list(TEXT_STAGES[:3])
    assert back[:2] == (0, "tiny-copy: version 1 is current\n")
    assert verified[0] == 0 and "golden answers reproduced" in verified[1]


@pytest.mark.timeout(300)
def test_a_refused_candidate_is_not_published_unless_its_parent_is_asked_for(person: Person) -> None:
    """Too slow for its limit: exit code 4 and the figure; or the FP32 parent, and why."""
    person.types("run")

    refused = person.types("run", "--set", "gate.min_speedup=1000")
    served = current_version(person.repository, "tiny-copy")
    parent = person.types("run", "--set", "gate.min_speedup=1000", "--set", "gate.on_refused=publish_parent")

    assert refused[0] == 4 and served == "1"
    assert "decode speed-up over the FP32 parent, 1 at once" in refused[2]
    assert parent[0] == 0, parent[2]
    manifest = open_current(person.repository, "tiny-copy").manifest
    assert manifest.targets[0].precision == "fp32"
    assert "the compressed candidate was refused" in manifest.provenance.recipe


@pytest.mark.timeout(300)
def test_a_damaged_engine_does_not_verify(person: Person) -> None:
    """A changed byte of the weights is found by its hash, and said."""
    person.types("run")
    folder = person.repository / "tiny-copy" / "1"
    weights = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0xFF
    weights.write_bytes(bytes(data))

    code, _, said = person.types("verify", "tiny-copy")

    assert code == 5
    assert weights.name in said


@pytest.mark.timeout(300)
def test_killed_anywhere_the_line_goes_on(person: Person, tmp_path: Path) -> None:
    """kill -9 while it fine-tunes: run again, it goes on from its checkpoint and publishes one whole version."""
    workspace = tmp_path / "own-workspace"
    command = [sys.executable, "-m", "build_engines", "run", str(person.recipe), "--plain"]
    command += [
        "--workspace",
        str(workspace),
        "--repository",
        str(person.repository),
        "--set",
        "finetune.epochs=2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    deadline = time.monotonic() + 120
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        while not list(workspace.glob("finetune/.*.scratch/finetune.pt")):
            assert process.poll() is None and time.monotonic() < deadline, (
                "it ended before it could be killed"
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGKILL)
    person.workspace = workspace

    code, _, said = person.types("run", "--set", "finetune.epochs=2")

    assert code == 0, said
    assert "text-load: reused" in said
    assert versions(person.repository, "tiny-copy") == ["1"]
    assert not list(workspace.glob("*/.*.scratch")) and not list(workspace.glob("*/.*.aside"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("finetune.epoch=3", "did you mean 'epochs'?"),
        ("package.variant=int2", "package.variant is 'int2'"),
        ("package.max_context=256", "data.max_tokens is 500, package.max_context is 256"),
        ("gate.filled=512", "gate.filled is 512, must be below package.max_context (512)"),
        ("split.gate_share=0.9", "are more than 1 together"),
        ("data.pairs=x.jsonl", "give either pairs (a file) or sample_copy (a section)"),
        ("data.sample_copy.every=0", "every is 0; use 1 to 1000000"),
        ("model.name=../x", "model name '../x'"),
    ],
)
def test_a_wrong_recipe_is_named_by_its_key(person: Person, setting: str, sentence: str) -> None:
    """File or setting, key, value, and what to do."""
    with pytest.raises(RecipeError) as caught:
        load_text_recipe(person.recipe, [setting])

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (("--set", "checkpoint.folder=nowhere"), 3, "nowhere/config.json: cannot be read"),
        (("--set", "data.max_tokens=20"), 3, "0 pairs are left for the gate"),
        (("--from", "compile"), 2, "no stage of a text model"),
    ],
)
def test_what_cannot_be_built_has_its_exit_code_and_its_sentence(
    person: Person, more: tuple[str, ...], code: int, sentence: str
) -> None:
    """Scripts can tell a typing error from data; people are told what to do."""
    found, _, said = person.types("run", *more)

    assert (found, "Traceback" in said) == (code, False)
    assert sentence in said


def test_a_recipe_of_an_unknown_kind_is_said(tmp_path: Path) -> None:
    """Neither a recommender nor a text model: the kinds there are."""
    (tmp_path / "r.toml").write_text('kind = "image"', encoding="utf-8")

    with pytest.raises(RecipeError, match="kind is 'image'; write kind = \"text\" for a text model"):
        recipe_kind(tmp_path / "r.toml")


def test_the_recipe_that_comes_with_the_project_is_read_and_is_a_demonstration() -> None:
    """``make serve`` builds it: it names the shipped checkpoint and judges on products that it never learnt from."""
    recipe = load_text_recipe(RECIPES / "sample_copy.toml")

    assert recipe.model.name == "demo-copy" and recipe.model.demonstration
    assert recipe.checkpoint.folder.resolve() == ROOT / "build_engines" / "demo_models" / "demo-copy"
    assert recipe.finetune is None
    assert recipe.data.sample_copy is not None and recipe.data.sample_copy.every == 40


@pytest.mark.timeout(300)
def test_a_chain_of_steps_is_packaged_and_judged_against_the_whole_model(person: Person) -> None:
    """Half of the inner width, learnt again: smaller numbers in config.json, evidence against the model before the chain."""
    chain = 'compress=[{step="prune_inner", keep=0.5}, {step="finetune", epochs=1}]'
    code, _, said = person.types(
        "run", "--set", chain, "--set", "gate.max_perplexity_rise=10", "--set", "gate.max_slice_rise=10"
    )

    assert code == 0, said
    opened = open_current(person.repository, "tiny-copy")
    steps = opened.manifest.provenance.chain
    assert [one.step for one in steps] == ["prune_inner", "finetune"]
    config = json.loads(opened.path("config.json").read_text())
    assert config["intermediate_size"] == steps[0].after["inner"] < steps[0].before["inner"]
    assert opened.manifest.figures["parameters"] == steps[-1].after["parameters"]
    assert next(item for item in opened.manifest.evidence if item.kind == "size").value < 0.9
    assert person.types("verify", "tiny-copy")[0] == 0
