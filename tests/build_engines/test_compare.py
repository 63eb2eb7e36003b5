"""Two versions side by side: the same examples, a page that says whether one is worse, and an exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from build_engines.__main__ import main
from build_engines.compare.records import Comparison
from build_engines.pipeline import build
from build_engines.progress import Silent
from build_engines.proof.examples import EXAMPLES_FILE, read_examples
from build_engines.proof.footprint import ask_of_version, measured
from build_engines.recipe import Recipe, load_recipe
from build_engines.workspace import Workspace
from server.artifacts.manifest import SCHEMA_VERSION
from server.artifacts.releases import Releases
from server.artifacts.repository import open_version
from tests.build_engines.mini_shop import RECIPE
from tests.tiny import publish_tiny

FAST = ["--rounds", "10", "--batch-sizes", "1", "--plain"]


@pytest.fixture
def repository(tmp_path: Path, mini_workspace: Path) -> Path:
    """The mini shop in INT8 (1) and in FP32 (2), and trained worse (3)."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")
    recipes: list[Recipe] = [
        load_recipe(tmp_path / "mini.toml", sets)
        for sets in ([], ["quantize.precision=fp32"], ["quantize.precision=fp32", "mix.gammas=[0.1]"])
    ]
    for recipe in recipes[:2]:
        build(
            recipe, Workspace(root=mini_workspace, progress=Silent()), Releases(repository=tmp_path / "repo")
        )
    return tmp_path / "repo"


@pytest.mark.timeout(300)
def test_a_version_is_as_good_as_itself_and_int8_is_compared_with_fp32(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One page that needs nothing beside it, one JSON, the same figures as the gate had; exit 0."""
    out, told = tmp_path / "c.html", tmp_path / "c.json"
    typed = [
        "compare",
        "mini:2",
        str(repository / "mini" / "1"),
        "--repository",
        str(repository),
        "--out",
        str(out),
    ]

    code = main(
        [
            *typed,
            "--json",
            str(told),
            "--max-loss",
            "0.9",
            "--max-slice-loss",
            "0.9",
            "--min-speedup",
            "0",
            *FAST,
        ]
    )

    said = capsys.readouterr()
    assert code == 0, said.err
    found = msgspec.json.decode(told.read_bytes(), type=Comparison)
    assert (found.a.precision, found.b.precision) == ("fp32", "int8")
    assert found.same_examples and found.metrics[0].name == "ndcg@10"
    # INT8 was gated against its FP32 parent on these shoppers: the same means come out of the published versions.
    report = msgspec.json.decode((repository / "mini" / "1" / "report.json").read_bytes())
    for side, model in ((found.metrics[0].a, "parent"), (found.metrics[0].b, "candidate")):
        assert side == pytest.approx(report["gate"][model]["metrics"]["ndcg@10"], abs=1e-12)
    assert set(found.footprint) == {"A", "B"} and found.footprint["B"].engine_bytes > 0
    page = out.read_text(encoding="utf-8")
    for text in (
        "mini version 1 against mini version 2",
        "Where it hurts",
        "ndcg@10",
        "<svg",
        "paired bootstrap",
    ):
        assert text in page, text
    assert "<script" not in page and 'src="' not in page


@pytest.mark.timeout(300)
def test_a_worse_version_is_a_regression_with_its_exit_code(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B's graph answers in another order: the loss is decided, exit 7, and the sentence says by how much."""
    worse = tmp_path / "worse"
    _scrambled(repository / "mini" / "2", worse)

    code = main(
        [
            "compare",
            "mini:2",
            str(worse),
            "--repository",
            str(repository),
            "--out",
            str(tmp_path / "c.html"),
            *FAST,
        ]
    )

    said = capsys.readouterr().out
    assert code == 7
    assert "regression" in said and "ndcg@10 loses" in said


@pytest.mark.timeout(300)
def test_what_is_not_decided_is_no_regression_unless_asked(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three hundred shoppers do not decide 0.01 %: exit 0, or 7 with --strict, and the number that would decide is told."""
    typed = [
        "compare",
        "mini:2",
        "mini:1",
        "--repository",
        str(repository),
        "--out",
        str(tmp_path / "c.html"),
    ]
    typed += ["--max-loss", "0.0001", "--max-slice-loss", "1", "--min-speedup", "0", *FAST]

    codes = [main([*typed, *strict]) for strict in ([], ["--strict"])]

    assert codes == [0, 7]
    assert "would decide it" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such version; no examples; limits out of range."""
    publish_tiny(tmp_path / "repo")
    typed = ["--repository", str(tmp_path / "repo"), "--out", str(tmp_path / "c.html"), *FAST]

    assert main(["compare", "tiny", "absent", *typed]) == 5
    assert main(["compare", "tiny", "tiny:1", *typed]) == 1
    assert main(["compare", "tiny", "tiny", *typed, "--max-loss", "3"]) == 1

    said = capsys.readouterr().err
    assert "no model 'absent'" in said
    assert f"holds {EXAMPLES_FILE}: they were built before it was kept" in said
    assert "compare: max_loss is 3.0; use 0 to 1" in said


def test_examples_hold_nobodys_name_and_can_be_left_out(
    tmp_path: Path, mini_workspace: Path, repository: Path
) -> None:
    """Item rows and what was chosen, nothing of who; ``gate.keep_examples = false`` keeps none."""
    examples = read_examples(repository / "mini" / "1" / EXAMPLES_FILE)
    assert set(examples.arrays) == {"histories.flat", "histories.lengths", "targets_C", "train_counts_N1"}
    assert {"head", "tail", "cold", "short", "long"} <= set(examples.slices)

    recipe = load_recipe(tmp_path / "mini.toml", ["gate.keep_examples=false"])
    published = build(
        replace(recipe),
        Workspace(root=mini_workspace, progress=Silent()),
        Releases(repository=tmp_path / "bare"),
    )
    assert not (published.opened.folder / EXAMPLES_FILE).exists()


def test_memory_time_and_cpu_are_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Real figures of a real engine, at each size and at a rate; a folder that holds nothing is a sentence."""
    opened = publish_tiny(tmp_path / "repo").opened

    found = measured(
        ask_of_version(opened.folder, opened.manifest, batch_sizes=(1, 8), rate_per_s=50, rate_seconds=0.5)
    )

    assert found.disk_bytes == sum(
        entry.size_bytes
        for entry in opened.manifest.files
        if entry.path.startswith(("tables/", "onnxruntime/"))
    )
    assert 10e6 < found.rss_bytes <= found.peak_bytes
    assert 0 < found.engine_bytes < found.rss_bytes
    assert [one.batch_size for one in found.batches] == [1, 8]
    assert all(0 < one.median_s <= one.p90_s <= one.p99_s and one.cpu_s_per_1000 > 0 for one in found.batches)
    assert found.p99_s is not None and found.p99_interval_s is not None
    assert found.p99_interval_s[0] <= found.p99_s <= found.p99_interval_s[1]
    assert found.served_per_s is not None and found.served_per_s > 10


def _scrambled(version: Path, folder: Path) -> None:
    # The same version with its item vectors and transitions in another order: it recommends at random.
    import shutil

    import numpy as np

    from server.artifacts.golden import GOLDEN_FILE, Golden, write_golden
    from server.artifacts.manifest import MANIFEST_FILE
    from server.artifacts.repository import OpenedVersion, describe_folder
    from server.artifacts.schema import encode_manifest
    from server.encoding import tables
    from server.pipelines.loading import open_engine

    shutil.copytree(version, folder)
    generator = np.random.default_rng(0)
    for name in ("item_emb_ND", "neighbour_ids_NM", "popularity_N"):
        path = folder / "tables" / f"{name}.npy"
        array = np.load(path)
        order = np.concatenate([[0], 1 + generator.permutation(80), np.arange(81, len(array))])
        np.save(path, array[order])
    manifest = open_version(version).manifest
    manifest = msgspec.structs.replace(manifest, version="0", files=describe_folder(folder))
    opened = OpenedVersion(manifest=manifest, folder=folder)
    from server.artifacts.golden import read_golden

    golden = read_golden(folder / GOLDEN_FILE)
    target = next(one for one in manifest.targets if one.kind == "onnxruntime" and one.entry == "masked")
    engine = open_engine(opened, target, tables.engine_tables(opened.constants()))
    write_golden(folder / GOLDEN_FILE, Golden(inputs=golden.inputs, outputs=engine.run(golden.inputs)))
    engine.close()
    manifest = msgspec.structs.replace(manifest, files=describe_folder(folder))
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    assert manifest.schema_version == SCHEMA_VERSION
