"""From a recipe to a version, on a shop of 80 products: reuse, refusal, kill and rollback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from build_engines import train
from build_engines.__main__ import main
from build_engines.stage_names import STAGES as ALL_STAGES
from server.artifacts.repository import current_version, open_current, versions
from tests.build_engines.mini_shop import RECIPE, served_mix

STAGES = tuple(one for one in ALL_STAGES if one != "compress")  # the recipe names no steps


class Person:
    """Somebody at a command line, in a folder of their own."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str], workspace: Path | None = None) -> None:
        self.home = home
        self.repository = home / "model_repository"
        self.workspace = workspace or home / "workspace"
        self.recipe = home / "mini.toml"
        self.recipe.write_text(RECIPE, encoding="utf-8")
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


@pytest.fixture
def person(tmp_path: Path, capsys: pytest.CaptureFixture[str], mini_workspace: Path) -> Person:
    """Somebody with a repository of their own and the shared workspace."""
    return Person(tmp_path, capsys, mini_workspace)


@pytest.mark.timeout(300)
def test_a_recipe_becomes_a_version_with_its_proof(person: Person) -> None:
    """One command: a compressed engine, its evidence, its report, its provenance, current and verified."""
    code, _, said = person.types("run")

    assert code == 0, said
    opened = open_current(person.repository, "mini")
    manifest = opened.manifest
    kinds = {item.kind for item in manifest.evidence}
    assert kinds == {"quality", "speed", "size", "parity", "floor"}
    assert {target.precision for target in manifest.targets} == {"int8"}
    assert all(target.proven == "gated" and target.cost is not None for target in manifest.targets)
    assert manifest.calibration is not None
    assert manifest.provenance.recipe == RECIPE
    assert set(manifest.provenance.durations_s) == set(STAGES) - {"publish"}
    assert {"clicks.csv", "items.jsonl"} == set(manifest.provenance.data)
    report = msgspec.json.decode(opened.path("report.json").read_bytes())
    assert report["model"] == "mini"
    assert "<svg" in opened.path("report.html").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
def test_the_same_recipe_again_makes_and_publishes_nothing(person: Person) -> None:
    """Every stage is reused, the version that is there stays, and ``status`` says so."""
    person.types("run")

    code, _, said = person.types("run")

    assert code == 0
    assert said.count("reused") == len(STAGES) - 1
    assert "mini version 1 was published before and serves" in said
    assert versions(person.repository, "mini") == ["1"]
    assert person.types("status")[1].count("done") == len(STAGES) - 1


@pytest.mark.timeout(300)
def test_a_later_knob_keeps_earlier_stages(person: Person) -> None:
    """Another batch limit of the gate trains nothing; ``--from`` runs what it names and what follows."""
    person.types("run")

    _, _, moved = person.types("run", "--set", "gate.rounds=11")
    code, _, forced = person.types("run", "--from", "compile")

    assert code == 0
    assert [line.split(":")[0] for line in moved.splitlines() if "reused" in line] == list(STAGES[:5])
    assert [line.split(":")[0] for line in forced.splitlines() if "reused" in line] == list(STAGES[:4])
    assert versions(person.repository, "mini") == ["1", "2", "3"]


@pytest.mark.timeout(300)
def test_a_refused_candidate_is_not_published_and_the_figures_are_said(person: Person) -> None:
    """Not fast enough: exit code 4, figure, limit and sample size, and the old version serves on."""
    person.types("run")

    code, _, said = person.types("run", "--set", "gate.min_speedup=1000")

    assert code == 4
    assert "mini: not published, 2 of" in said
    assert "speed-up over the FP32 parent at batch 8" in said
    assert "must be at least 1000 x (n = 10)" in said
    assert current_version(person.repository, "mini") == "1"


@pytest.mark.timeout(300)
def test_a_recipe_can_ask_for_the_parent_instead(person: Person) -> None:
    """A shop that would rather have the uncompressed model than none gets it, and its recipe says why."""
    code, _, said = person.types(
        "run", "--set", "gate.min_speedup=1000", "--set", "gate.on_refused=publish_parent"
    )

    assert code == 0, said
    assert "publishing the FP32 parent instead" in said
    manifest = open_current(person.repository, "mini").manifest
    assert {target.precision for target in manifest.targets} == {"fp32"}
    assert "the compressed candidate was refused" in manifest.provenance.recipe
    assert {item.kind for item in manifest.evidence} == {"parity", "floor"}


@pytest.mark.timeout(300)
def test_a_target_whose_libraries_are_missing_is_refused_or_skipped(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where TensorRT is not installed the sentence says what to install; skipping it has to be asked for."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    both = ["--set", 'compile.targets=["onnxruntime", "tensorrt"]']

    refused = person.types("run", *both)
    skipped = person.types("run", *both, "--set", "compile.skip_missing=true")

    assert (refused[0], skipped[0]) == (6, 0)
    assert "pip install" in refused[2]
    assert "skipped: target tensorrt" in skipped[2]
    assert {target.kind for target in open_current(person.repository, "mini").manifest.targets} == {
        "onnxruntime"
    }


@pytest.mark.timeout(300)
def test_list_verify_and_rollback_are_one_command_each(person: Person) -> None:
    """What there is, whether it holds, and back to the one before."""
    person.types("run")
    person.types("run", "--set", "gate.rounds=11")

    _, listed, _ = person.types("list")
    verified = person.types("verify", "mini")
    back = person.types("rollback", "mini")
    damaged = person.repository / "mini" / "1" / "tables" / "popularity_N.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    broken = person.types("verify", "mini")
    too_far = person.types("rollback", "mini")

    assert "2        2" in listed
    assert "<- serves" in listed.splitlines()[2]
    assert (verified[0], back[0]) == (0, 0)
    assert "golden answers reproduced" in verified[1]
    assert back[1] == "mini: version 1 is current\n"
    assert broken[0] == too_far[0] == 5
    assert "popularity_N.npy: has" in broken[2]
    assert "no version older than 1" in too_far[2]


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (["run", "--set", "train.epoch=3"], 2, "did you mean 'epochs'?"),
        (["run", "--set", "data={log='missing.csv'}"], 3, "missing.csv: no such file"),
        (["run", "--set", "network.heads=3"], 2, "heads is 3 and dim is 16; dim must be a multiple of heads"),
        (["rollback", "nobody"], 5, "no model 'nobody'"),
        (["verify", "nobody"], 5, "no model 'nobody'"),
        (["verify", "mini", "--version", "7"], 5, "not a published version"),
    ],
)
def test_what_is_wrong_has_its_exit_code_and_its_sentence(
    person: Person, command: list[str], code: int, sentence: str
) -> None:
    """Scripts can tell a typing error from a full disk; people are told what to do."""
    found, _, said = person.types(*command)

    assert found == code
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("user_id,item_id,timestamp\n", "the log is empty"),
        ("user_id,item_id,timestamp\nu,i,1700000000\nu,i,1700000001\n", "the log knows 1 item"),
        ("user_id,item_id,timestamp\nu,a,1700000000\nu,b,1700000001\n", "none of 1 users can be tested"),
        ("user_id,item_id,timestamp\nu,a,never\nu,b,1700000001\n", "clicks.csv:2: "),
    ],
)
def test_a_log_that_cannot_be_used_is_refused_with_a_sentence(
    person: Person, log: str, sentence: str
) -> None:
    """An empty log, a log with one item, nobody to test on, a time that is none: exit code 3, file and line."""
    (person.home / "clicks.csv").write_text(log, encoding="utf-8")

    code, _, said = person.types("run", "--set", f"data={{log='{person.home / 'clicks.csv'}'}}")

    assert code == 3
    assert sentence in said


KILLED = """
import sys
from build_engines import train
from build_engines.__main__ import main

real = train.train

def run(*arguments, progress, **options):
    def after_an_epoch(report):
        print("here", flush=True)
        sys.stdin.read()
    return real(*arguments, progress=after_an_epoch, **options)

train.train = run
main(sys.argv[1:])
"""


@pytest.mark.timeout(300)
def test_a_run_killed_in_training_goes_on_from_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill -9 after the first of two epochs: the next run trains the second one only."""
    person = Person(tmp_path, capsys)
    two_epochs = ["--set", "train.epochs=2"]
    places = ["--workspace", str(person.workspace), "--repository", str(person.repository)]
    command = [sys.executable, "-c", KILLED, "run", str(person.recipe), *places, *two_epochs]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
        run.send_signal(signal.SIGKILL)
    trained: list[int] = []

    with (
        mock.patch.object(train, "train", _noting_epochs(trained)),
        mock.patch.object(train, "tune_mix", served_mix),
    ):
        code, _, said = person.types("run", *two_epochs)

    assert code == 0, said
    assert trained == [1]
    assert current_version(person.repository, "mini") == "1"


def _noting_epochs(trained: list[int]):  # type: ignore[no-untyped-def]
    real = vars(train)["train"]

    def run(*arguments, progress, **options):  # type: ignore[no-untyped-def]
        def note(report):  # type: ignore[no-untyped-def]
            trained.append(report.epoch)
            progress(report)

        return real(*arguments, progress=note, **options)

    return run


def test_help_tells_a_stranger_all_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, a first build, a recipe of one's own, exit codes."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])

    text = capsys.readouterr().out
    assert end.value.code == 0
    for words in ("run", "status", "list", "rollback", "verify", "sample_shop", "[data]", "exit codes"):
        assert words in text
