"""A recipe is read whole or refused with the place and the nearest right word."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_engines.__main__ import main
from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.sample_shop import SampleShopSize
from build_engines.encoder.recipe import EncoderRecipe, load_encoder_recipe
from build_engines.errors import RecipeError
from build_engines.own_model.recipe import OwnRecipe, load_own_recipe
from build_engines.pipeline import train_part, verify_part
from build_engines.recipe import RECIPES, Recipe, load_recipe
from build_engines.recipe_kind import recipe_kind
from build_engines.recipe_limits import LIMITS, Filled, Limit
from build_engines.recipe_parts import NetworkPart, TrainPart
from build_engines.recipe_toml import ARRAYS
from build_engines.rerank.recipe import RerankRecipe, load_rerank_recipe
from build_engines.text.recipe import TextRecipe, load_text_recipe
from build_engines.text.recipe_parts import SampleCopyPart
from build_engines.text.tuning_parts import TuningConfig

TEXT = 'kind = "text"\n[model]\nname = "copy"\n[checkpoint]\nfolder = "x"\n[data.sample_copy]\nseed = 1\n'
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
    load = {
        "text": load_text_recipe,
        "encoder": load_encoder_recipe,
        "recommender": load_recipe,
        "own": load_own_recipe,
        "rerank": load_rerank_recipe,
    }[recipe_kind(Path(name))]

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
        ("[gate]\nmax_relative_loss = nan", r"gate\.max_relative_loss is nan; use 0 to 1"),
        ("[gate]\nbatch_sizes = []", r"gate\.batch_sizes is empty; give 1 to 64 numbers, each 1 to 4096"),
        ("[gate]\nbatch_sizes = [1, 512]", r"gate\.batch_sizes has 512, export\.max_batch is 64"),
        ("[quantize]\nprecision = 'int3'", r"quantize\.precision is 'int3'"),
        ("[compile]\ntargets = ['tensorrt_rtx']\n", r"compile: target 'tensorrt_rtx' needs its GPUs"),
        ("[compile]\ntargets = []\n", r"compile\.targets is empty; give 1 to 64 words"),
        (
            "[compile]\ntargets = ['onnxruntime', 'tensorrt_rtx:sm86,']\n",
            r"has the GPU ''; write such as \"sm86\"",
        ),
        ("[compile]\ntargets = ['onnxruntime:sm86']\n", r"onnxruntime runs on the CPU"),
        ("[compile]\ntargets = ['onnx']\n", r"compile: target 'onnx' is not known"),
        ("[compile]\ntargets = ['tensorrt']\n", r'must hold "onnxruntime"'),
        ("[gate]\nmetric = 'auc'", r"gate: metric is 'auc'; use one such as ndcg@10"),
        ("[gate]\nmetric = 'coverage@10'", r"gate: metric is 'coverage@10'"),
        ("[export]\nmax_k = 8", r"export\.max_k is 8, gate\.metric ndcg@10 needs 11 or more"),
        ("[split]\ncalibration_share = 0.9", r"split\.calibration_share is 0\.9; use 0 to 0\.5"),
        ("[transitions]\ndecay = 0", r"transitions\.decay is 0\.0; use more than 0, to 1"),
        ("[export]\nmax_k = 4000", r"export\.max_k is 4000; use 1 to 3840"),
        ("[data.sample_shop]\nseed = 1", r"data: give either log .* or sample_shop"),
        ("[publish]\nkeep = 0", r"publish\.keep is 0; use 1 to 100000"),
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
        RecipeError, match=r"comes with the builder: beauty, bench_50k, .*sample_copy, .*sample_shop"
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
        ("publish.keep=0", r"^--set publish\.keep is 0; use 1 to 100000"),
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


def parts_of(kind: type) -> Iterator[type]:
    """A section's class and those inside it."""
    yield kind
    for hint in typing.get_type_hints(kind).values():
        for option in typing.get_args(hint) or (hint,):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                yield from parts_of(option)


def is_bounded(hint: object) -> bool:
    """Whether a field holds numbers, or a list."""
    if typing.get_origin(hint) is tuple or hint in (int, float):
        return True
    return any(is_bounded(option) for option in typing.get_args(hint)) and typing.get_origin(hint) is not dict


def test_every_number_and_list_of_a_recipe_has_a_limit_and_its_default_is_within() -> None:
    """A field that is added without a line in the table is found here, not by a person's traceback."""
    wanted = {
        (part, name)
        for recipe in (Recipe, TextRecipe, EncoderRecipe, OwnRecipe, RerankRecipe)
        for part in parts_of(recipe)
        for name, hint in typing.get_type_hints(part).items()
        if is_bounded(hint) and name not in ARRAYS  # their entries have the limits of their own step
    }

    assert wanted == {(part, name) for part, limits in LIMITS.items() for name in limits}
    for part, limits in LIMITS.items():
        for field in dataclasses.fields(part):
            if field.name in limits and field.default is not dataclasses.MISSING:
                assert limits[field.name].fault(field.default) is None, (part, field.name)


def outside(limit: Limit | Filled, hint: object) -> Iterator[object]:
    """Values that must be refused."""
    many = any(typing.get_origin(one) is tuple for one in (hint, *typing.get_args(hint)))
    if many:
        yield from ([], (["q_proj"] if isinstance(limit, Filled) else [limit.high]) * 65)
    if isinstance(limit, Filled):
        return
    wrong = [limit.low - 1, limit.high + 1]
    if hint not in (int, int | None, tuple[int, ...], tuple[int, ...] | None):
        wrong += [math.nan, math.inf, -math.inf]
        wrong += [limit.low] * limit.above + [limit.high] * limit.below
    for value in wrong:
        yield [value, value] if many else value


ENCODER = """kind = "encoder"
[model]
name = "mini-encoder"
[checkpoint]
folder = "checkpoint"
[texts]
file = "texts.txt"
"""
OWN = 'kind = "own"\nsource = "onnx:x.onnx"\n[model]\nname = "own"\n[data]\ngate = "gate.npz"\n'
RERANK = 'kind = "rerank"\n[model]\nname = "second"\n[first_stage]\nmodel = "first"\n[data.sample_shop]\nseed = 1\n'
CASES = [
    (prefix, recipe, part, name)
    for recipe, sections in (
        (Recipe, {"data.sample_shop": SampleShopSize, "data.rows": BadRowPolicy}),
        (
            TextRecipe,
            {"data.sample_copy": SampleCopyPart, "data.rows": BadRowPolicy, "finetune": TuningConfig},
        ),
        (EncoderRecipe, {}),
        (OwnRecipe, {}),
        (RerankRecipe, {}),
    )
    for prefix, part in (
        *sections.items(),
        *((name, hint) for name, hint in typing.get_type_hints(recipe).items() if hint in LIMITS),
    )
    for name in LIMITS[part]
]


@pytest.mark.parametrize(
    ("prefix", "recipe", "part", "name"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_value_out_of_its_limits_is_a_sentence(
    tmp_path: Path, prefix: str, recipe: type, part: type, name: str
) -> None:
    """Not a number, infinite, too small, too large, empty, too long: where, what, and what would be right."""
    text, load = {
        TextRecipe: (TEXT, load_text_recipe),
        EncoderRecipe: (ENCODER, load_encoder_recipe),
        OwnRecipe: (OWN, load_own_recipe),
        RerankRecipe: (RERANK, load_rerank_recipe),
        Recipe: (MINIMAL, load_recipe),
    }[recipe]
    file = written(tmp_path, text)
    hint = typing.get_type_hints(part)[name]
    for value in outside(LIMITS[part][name], hint):
        typed = json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
        with pytest.raises(RecipeError) as refusal:
            load(file, [f"{prefix}.{name}={typed}"])
        said = str(refusal.value)
        assert said.startswith(f"--set {prefix}.{name} ")
        assert "; use " in said or "; give " in said or "Expected `array` of length 2" in said, said


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("mix.gammas=[]", "--set mix.gammas is empty; give 1 to 64 numbers, each 0 to 1e+06"),
        ("mix.windows=[0]", "--set mix.windows has 0; use 1 to 50 for each"),
        ("train.epochs=-1", "--set train.epochs is -1; use 1 to 100000"),
        ("train.batch_size=0", "--set train.batch_size is 0; use 1 to 65536"),
        ("train.learning_rate=nan", "--set train.learning_rate is nan; use more than 0, to 10"),
        ("network.dim=0", "--set network.dim is 0; use 1 to 4096"),
        (
            "network.heads=3",
            "network with --set network.dim, network.heads: heads is 3 and dim is 128; dim must be a multiple",
        ),
        ("network.length=100000", "--set network.length is 100000; use 1 to 4096"),
        ("export.max_batch=100000", "--set export.max_batch is 100000; use 1 to 4096"),
        ("train.epochs=" + "9" * 400, "; use 1 to 100000"),
        ("train.epochs=" + "9" * 5000, "Expected `int`"),
        ("train.learning_rate=" + "9" * 400, "train.learning_rate is 999"),
        ("mix.gammas=" + "[" * 5000, "Expected `array`"),
        ("transitions.half_life_s=60.0", "transitions.half_life_s is 60; leave it out"),
        ("train.device=tpu", """--set train.device is 'tpu'; use "cpu", "cuda" or "cuda:N"""),
        (
            "train.device=cuda",
            """--set train.device is 'cuda', and torch finds no CUDA device on this machine""",
        ),
    ],
)
def test_a_wrong_value_is_exit_2_before_any_stage_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sentence: str,
) -> None:
    """As a person types it: one sentence, no traceback, and nothing was made."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    workspace = tmp_path / "workspace"

    code = main(
        ["run", "sample_shop", "--set", "network.dim=128", "--set", setting, "--workspace", str(workspace)]
    )

    said = capsys.readouterr().err
    assert code == 2
    assert sentence in said and "load" not in said
    assert not workspace.exists()


def test_a_text_recipe_is_held_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its values say of each other, and its device."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = written(tmp_path, TEXT)
    for setting, sentence in (
        ("package.max_chunk=4096", "max_chunk is 4096, max_context is 2048"),
        ("finetune.device=cuda", "finetune.device is 'cuda', and torch finds no CUDA device"),
    ):
        with pytest.raises(RecipeError, match=sentence):
            load_text_recipe(file, [setting])
    with pytest.raises(RecipeError, match='awq is for "int4" only'):
        load_text_recipe(file, ["package.awq=true", "package.variant=int8"])
