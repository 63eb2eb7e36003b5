"""The gate of a real line: fairness refuses, footprints are measured, leaks are found, slices are told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from build_engines.__main__ import main
from build_engines.encoder import load as encoder_load
from build_engines.pipeline import build
from build_engines.progress import Silent
from build_engines.recipe import load_recipe
from build_engines.text import package as text_package
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases
from tests.build_engines.mini_shop import RECIPE


@pytest.mark.timeout(300)
def test_the_report_says_it_in_plain_words_and_measures_where_it_serves(
    tmp_path: Path, mini_workspace: Path
) -> None:
    """Smaller by, faster by, as good as, where it hurts; memory and CPU of both engines; groups; slices with intervals."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mini.toml", ["gate.footprint=true", "gate.fairness.min_group=5"])

    published = build(
        recipe, Workspace(root=mini_workspace, progress=Silent()), Releases(repository=tmp_path / "repo")
    )

    report = msgspec.json.decode((published.opened.folder / "report.json").read_bytes())
    assert set(report["footprint"]) == {"candidate", "parent"}
    assert report["footprint"]["candidate"]["batches"][0]["cpu_s_per_1000"] > 0
    names = {one["name"] for one in report["slices"]}
    assert {"head", "tail", "short", "long"} <= names
    assert any(name.startswith("category: ") for name in names)
    assert {one["kind"] for one in report["groups"]} == {"exposure", "representation", "quality", "gap"}
    page = (published.opened.folder / "report.html").read_text(encoding="utf-8")
    top = page.split("<h2>")[0]
    for said in (
        "<dt>Size</dt>",
        "<dt>Speed</dt>",
        "<dt>Quality</dt>",
        "of memory for the model",
        "of CPU for 1,000",
    ):
        assert said in top, said
    assert "p of all (Holm)" in page and "Fairness" in page


@pytest.mark.timeout(300)
def test_a_limit_of_fairness_refuses_a_version(
    tmp_path: Path, mini_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No category may be shown less than people chose of it: one is, and the refusal names it with its figures."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")
    typed = [
        "run",
        str(tmp_path / "mini.toml"),
        "--workspace",
        str(mini_workspace),
        "--repository",
        str(tmp_path / "repo"),
    ]
    typed += [
        "--plain",
        "--set",
        "gate.fairness.min_representation=1.0",
        "--set",
        "gate.fairness.min_group=5",
    ]

    typed += [
        "--set",
        "data.sample_shop.num_users=2500",
        "--set",
        "quantize.precision=fp32",
    ]  # 300 shoppers decide nothing about a group
    code = main([*typed, "--set", 'gate.fairness.item_groups=["category"]'])

    said = capsys.readouterr().err
    assert code == 4, said
    assert "fairness, exposure against what people chose of category" in said
    assert not (tmp_path / "repo" / "mini").exists()


def test_a_group_that_is_not_known_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything runs."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")

    code = main(
        ["run", str(tmp_path / "mini.toml"), "--set", 'gate.fairness.item_groups=["colour"]', "--plain"]
    )

    assert code == 2
    assert "gate.fairness.item_groups" in capsys.readouterr().err


def test_every_family_refuses_calibration_that_leaks() -> None:
    """All three ask the same module, with what the model reads."""
    from build_engines import graph_stages
    from build_engines.encoder import package as encoder_package
    from build_engines.proof import leak

    for module in (graph_stages, encoder_package, text_package):
        assert module.refuse_leak is leak.refuse_leak
    assert encoder_load.digests_of([np.array([1, 2])]) == leak.digests_of([np.array([1, 2], np.int32)])
