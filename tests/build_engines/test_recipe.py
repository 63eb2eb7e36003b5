"""A recipe is read whole or refused with the place and the nearest right word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from build_engines.errors import RecipeError
from build_engines.pipeline import train_part, verify_part
from build_engines.recipe import RECIPES, load_recipe
from build_engines.recipe_parts import NetworkPart, TrainPart
from build_engines.text.recipe import is_text_recipe, load_text_recipe

MINIMAL = '[model]\nname = "shop"\n[data]\nlog = "clicks.csv"\n'


def written(folder: Path, text: str) -> Path:
    """A recipe file."""
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_few_lines_are_a_recipe(tmp_path: Path) -> None:
    """Everything but the model's name and the log has a default; paths are relative to the recipe."""
    recipe = load_recipe(written(tmp_path, MINIMAL))

    assert recipe.data.log == tmp_path / "clicks.csv"
    assert recipe.quantize.precision == "int8"
    assert recipe.compile.wanted() == (("onnxruntime", None),)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_that_comes_along_is_valid(name: str) -> None:
    """A stranger's first command does not fail on a typing error of ours."""
    load = load_text_recipe if is_text_recipe(Path(name)) else load_recipe

    assert load(Path(name)).model.name


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[modle]\nname = 'x'", r"modle is not known; did you mean 'model'\?"),
        ("[train]\nepoch = 3", r"train\.epoch is not known; did you mean 'epochs'\?"),
        ("[data.format]\nkindd = 'csv'", r"data\.format\.kindd is not known; did you mean 'kind'\?"),
        ("[gate]\nzebra = 1", r"gate\.zebra is not known; known are metric, "),
        ("[train]\nepochs = 'ten'", r"train\.epochs is 'ten': Expected `int`"),
        ("[train]\nepochs = 2.5", r"train\.epochs is 2\.5"),
        ("[gate]\nmax_relative_loss = nan", r"gate: max_relative_loss is nan; use 0 to 1"),
        ("[gate]\nbatch_sizes = []", r"gate: batch_sizes are \(\)"),
        ("[gate]\nbatch_sizes = [1, 512]", r"gate\.batch_sizes has 512, export\.max_batch is 64"),
        ("[quantize]\nprecision = 'int3'", r"quantize\.precision is 'int3'"),
        ("[compile]\ntargets = ['tensorrt_rtx']\n", r"compile: target 'tensorrt_rtx' needs its GPUs"),
        ("[compile]\ntargets = ['onnx']\n", r"compile: target 'onnx' is not known"),
        ("[compile]\ntargets = ['tensorrt']\n", r'must hold "onnxruntime"'),
        ("[gate]\nmetric = 'auc'", r"gate: metric is 'auc'; use one such as ndcg@10"),
        ("[gate]\nmetric = 'coverage@10'", r"gate: metric is 'coverage@10'"),
        ("[export]\nmax_k = 8", r"export\.max_k is 8, gate\.metric ndcg@10 needs 11 or more"),
        ("[split]\ncalibration_share = 0.9", r"split: calibration_share is 0\.9"),
        ("[transitions]\ndecay = 0", r"transitions: decay"),
        ("[export]\nmax_k = 4000", r"export: max_k is 4000"),
        ("[data.sample_shop]\nseed = 1", r"data: give either log .* or sample_shop"),
        ("[publish]\nkeep = 0", r"publish: keep is 0; use 1 or more"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, line: str, sentence: str) -> None:
    """File, section and key, the value, and what would be right."""
    with pytest.raises(RecipeError, match=sentence) as refusal:
        load_recipe(written(tmp_path, f"{MINIMAL}{line}\n"))
    assert "recipe.toml" in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[model", r"is not TOML: "),
        ("[model]\nname = 'x'\nname = 'y'", "is not TOML"),
        ("", r"model is missing"),
        ("[model]\nname = 'x'", r"data is missing"),
        ("[data]\nlog = 'x'\n[model]", r"model\.name is missing"),
        ("model = 3\n[data]\nlog = 'x'", r"model is 3, must be a section"),
        ("[model]\nname = 'a/b'\n[data]\nlog = 'x'", r"model: model name 'a/b'"),
        ("[model]\nname = 'x'\n[data]\nlog = 7", r"data\.log is 7, must be a path in quotes"),
    ],
)
def test_a_broken_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """No traceback for a missing bracket."""
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(written(tmp_path, text))


def test_a_file_that_is_not_there_lists_what_comes_along(tmp_path: Path) -> None:
    """A wrong name shows the right ones; a file of another encoding is said to be one."""
    with pytest.raises(
        RecipeError, match="comes with the builder: beauty, bench_50k, sample_copy, sample_shop"
    ):
        load_recipe(Path("sample_shp"))
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        load_recipe(tmp_path / "latin.toml")


def test_settings_win_over_the_file_and_are_recorded(tmp_path: Path) -> None:
    """``--set`` takes TOML values and bare text, makes sections, and is part of the recipe's text."""
    file = written(tmp_path, MINIMAL)

    recipe = load_recipe(
        file, ["train.epochs=3", "model.name=other", "gate.batch_sizes=[2, 4]", "data.log=here.csv"]
    )

    assert (recipe.train.epochs, recipe.model.name, recipe.gate.batch_sizes) == (3, "other", (2, 4))
    assert recipe.data.log == Path("here.csv"), "a path on the command line is relative to the command"
    assert recipe.text.endswith("# --set data.log=here.csv")
    assert recipe.sha256 != load_recipe(file).sha256


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.epochs", r"write it as section\.key=value"),
        ("=3", r"write it as section\.key=value"),
        ("train..epochs=3", r"write it as section\.key=value"),
        ("model.name.first=x", r"'name' is a value, not a section"),
        ("train.epocs=3", r"--set train\.epocs is not known; did you mean 'epochs'\?"),
        ("publish.keep=0", r"publish with --set publish\.keep: keep is 0"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_typed(tmp_path: Path, setting: str, sentence: str) -> None:
    """The message names the command line, not a line of the file that is right."""
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(written(tmp_path, MINIMAL), [setting])


def test_the_parts_of_a_stage_hold_only_what_changes_its_result(tmp_path: Path) -> None:
    """Another gate limit, target or name trains nothing again."""
    file = written(tmp_path, MINIMAL)
    plain, moved = (
        load_recipe(file),
        load_recipe(file, ["gate.rounds=99", "compile.skip_missing=true", "publish.keep=2"]),
    )

    assert train_part(plain) == train_part(moved)
    assert verify_part(load_recipe(file, ["gate.on_refused=publish_parent"])) == verify_part(plain)


def test_network_and_training_sections_are_the_models_own_settings() -> None:
    """A setting that the model learns appears in the recipe, with the same default."""
    from build_engines.models.sasrec import SasRecConfig
    from build_engines.models.training import TrainingConfig

    def defaults(kind: type) -> dict[str, object]:
        return {field.name: field.default for field in dataclasses.fields(kind)}

    network = defaults(NetworkPart)
    del network["item_features"]
    sizes = defaults(SasRecConfig)
    del sizes["num_items"]
    assert network == sizes
    assert defaults(TrainPart) == defaults(TrainingConfig)


def test_the_parent_recipe_says_why_it_is_not_compressed(tmp_path: Path) -> None:
    """What was published instead of a refused candidate can be told from its recipe."""
    parent = load_recipe(written(tmp_path, MINIMAL)).parent()

    assert parent.quantize.precision == "fp32"
    assert "the compressed candidate was refused" in parent.text
