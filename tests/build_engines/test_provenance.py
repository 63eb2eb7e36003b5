"""The same recipe gives the same weights, and what the server is made of is listed so that others can read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from build_engines.__main__ import main
from build_engines.errors import BuildError
from build_engines.pipeline import build
from build_engines.progress import Silent
from build_engines.recipe import load_recipe
from build_engines.sbom import runtime_sbom
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, open_version
from server.artifacts.signatures import SIGNATURE_FILE, TrustedKeys
from tests.build_engines.mini_shop import RECIPE


@pytest.mark.timeout(300)
def test_the_same_recipe_twice_on_one_machine_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two workspaces that know nothing of each other: every graph, table, item file and golden answer is equal."""
    (tmp_path / "mini.toml").write_text(RECIPE + "# twice", encoding="utf-8")
    recipe = load_recipe(tmp_path / "mini.toml")

    def built(name: str) -> OpenedVersion:
        workspace = Workspace(root=tmp_path / name, progress=Silent())
        return build(recipe, workspace, Releases(repository=tmp_path / f"{name}-repo")).opened

    one, other = built("one"), built("other")

    said_of_time = {"report.html", "report.json"}  # how long stages took, and how fast engines were
    files = [
        {entry.path: entry.sha256 for entry in opened.manifest.files if entry.path not in said_of_time}
        for opened in (one, other)
    ]
    assert files[0] == files[1]
    assert any(name.startswith("tables/") for name in files[0]) and "golden.npz" in files[0]
    provenance = one.manifest.provenance
    assert provenance.seeds and provenance.data and provenance.hardware["cpu"] and provenance.code_version
    assert {"torch", "numpy", "onnxruntime"} <= set(provenance.packages)
    assert provenance.recipe_sha256 == recipe.sha256


@pytest.mark.timeout(300)
def test_a_recipe_with_a_key_publishes_signed_versions(
    tmp_path: Path, mini_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``keys new``, ``publish.signing_key``: the version opens for whoever trusts the key; a key that is missing stops before
    anything is built; a version without a signature is signed by ``sign``."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")
    key, places = (
        tmp_path / "shop.key",
        ["--workspace", str(mini_workspace), "--repository", str(tmp_path / "repo"), "--plain"],
    )
    run = ["run", str(tmp_path / "mini.toml"), *places]

    assert main([*run, "--set", f"publish.signing_key={key}"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main(["keys", "new", str(key), "--comment", "the shop"]) == 0
    assert f"VITRINE_TRUSTED_KEYS={key}.pub" in capsys.readouterr().out
    assert main([*run, "--set", f"publish.signing_key={key}"]) == 0

    trusted = TrustedKeys.read([f"{key}.pub"])
    folder = tmp_path / "repo" / "mini" / "1"
    assert open_version(folder, trusted=trusted).manifest.version == "1"
    (folder / SIGNATURE_FILE).unlink()
    assert main(["sign", "mini", "--key", str(key), "--repository", str(tmp_path / "repo"), "--plain"]) == 0
    assert open_version(folder, trusted=trusted).manifest.version == "1"


def test_the_bill_of_materials_is_cyclonedx_and_of_the_runtime_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Valid against the schema; what serves is in it with its version, what builds is not; the same twice."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")

    assert main(["sbom", "--out", str(tmp_path / "bom.json")]) == 0
    data = (tmp_path / "bom.json").read_bytes()

    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert data == runtime_sbom()
    document = json.loads(data)
    names = {one["name"].lower(): one for one in document["components"]}
    assert {"onnxruntime", "numpy", "msgspec", "fastapi"} <= set(names)
    assert not {"torch", "optuna", "pytest", "polars"} & set(names)
    assert names["numpy"]["purl"].startswith("pkg:pypi/numpy@2")
    references = {one["bom-ref"] for one in document["components"]} | {
        document["metadata"]["component"]["bom-ref"]
    }
    for one in document["dependencies"]:
        assert one["ref"] in references and set(one["dependsOn"]) <= references


def test_a_project_that_is_not_installed_has_no_bill() -> None:
    """A sentence, not an empty list."""
    with pytest.raises(BuildError, match="no-such-project is not installed here"):
        runtime_sbom("no-such-project")
