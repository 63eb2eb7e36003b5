"""A model of one's own, from its file or factory to a version that the server's engine answers from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines.__main__ import main
from build_engines.own_model.line import build, status
from build_engines.own_model.recipe import load_own_recipe
from build_engines.progress import PlainLines
from build_engines.workspace import Workspace
from server.artifacts.errors import ArtifactError
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, open_version
from server.pipelines.tensor_loading import TENSOR_TASK, load_tensors
from tests.build_engines.own_models import MODULE, graph, recipe, rows, save_rows

PRECISIONS = ("int8", "int8_dynamic", "fp32")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the scorer's ONNX file and its rows."""
    save_rows(tmp_path)
    onnx.save(graph(), str(tmp_path / "scorer.onnx"))
    return tmp_path


def built(folder: Path, file: Path) -> OpenedVersion:
    workspace = Workspace(root=folder / "workspace", progress=PlainLines())
    return build(load_own_recipe(file), workspace, Releases(repository=folder / "repository")).opened


def refused(folder: Path, file: Path, capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """What a person is told whose build is refused."""
    capsys.readouterr()
    arguments = [
        "run",
        str(file),
        "--plain",
        "--workspace",
        str(folder / "w"),
        "--repository",
        str(folder / "r"),
    ]
    assert main(arguments) == code
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scorer built in each precision: versions 1, 2 and 3 of ``PRECISIONS``. Read only."""
    folder = tmp_path_factory.mktemp("published")
    save_rows(folder)
    onnx.save(graph(), str(folder / "scorer.onnx"))
    for precision in PRECISIONS:
        built(folder, recipe(folder, precision=precision))
    return folder


def opened_in(folder: Path, precision: str) -> OpenedVersion:
    return open_version(folder / "repository" / "scorer" / str(PRECISIONS.index(precision) + 1))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_onnx_file_becomes_a_version_that_answers_as_it_did(published: Path, precision: str) -> None:
    """Raised to opset 24, named for serving, proven, and loaded by the server: the source's own numbers."""
    opened = opened_in(published, precision)
    manifest = opened.manifest
    loaded = load_tensors(opened)
    given = rows(50, 9)
    wanted = ort.InferenceSession(str(published / "scorer.onnx")).run(None, given)[0]

    found = loaded.engine.run(given)["score"]

    assert manifest.task == TENSOR_TASK and manifest.limits == {"max_batch": 64}
    assert [(one.name, one.dtype, one.shape) for one in manifest.inputs] == [
        ("features", "float32", ("B", 12)),
        ("product", "int64", ("B",)),
    ]
    assert manifest.targets[0].precision == precision
    kinds = {one.kind for one in manifest.evidence}
    assert kinds == ({"parity"} if precision == "fp32" else {"parity", "quality", "speed", "size"})
    assert np.abs(found - wanted).max() < (1e-5 if precision == "fp32" else 0.1) * np.abs(wanted).max()
    report = json.loads((opened.folder / "report.json").read_bytes())
    assert report["origin"] == "onnx:scorer.onnx"
    if precision == "int8":
        assert manifest.calibration is not None and manifest.calibration.samples == 256
        assert report["kernels"] == {"MatMulIntegerToFloat": 1}  # the second product is too small to round


def test_a_factory_becomes_a_version_that_answers_as_it_did(tmp_path: Path) -> None:
    """Traced at opset 24, with what it reads as part of the build: another file is another version."""
    save_rows(tmp_path)
    (tmp_path / "shop_scorer.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "bias.txt").write_text("0.5", encoding="utf-8")
    more = '[files]\nweights = "bias.txt"\n[options]\nhidden = 64\n'
    file = recipe(tmp_path, source="python:shop_scorer:build", more=more)
    opened = built(tmp_path, file)
    first = load_tensors(opened).engine.run(rows(8, 9))["score"]

    (tmp_path / "bias.txt").write_text("2.5", encoding="utf-8")
    other = built(tmp_path, file)
    second = load_tensors(other).engine.run(rows(8, 9))["score"]

    assert opened.manifest.provenance.data.keys() == {"gate", "calibration", "weights", "shop_scorer"}
    assert other.manifest.version != opened.manifest.version
    assert second - first == pytest.approx(np.full(8, 2.0), abs=0.1)
    workspace = Workspace(root=tmp_path / "workspace", progress=PlainLines())
    assert all(state.startswith("done") for _, state in status(load_own_recipe(file), workspace))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("python:shop_scorer:breaks", "the factory fails: OSError: no such bucket"),
        ("python:shop_scorer:nothing", "the factory returns int, must return"),
        ("python:shop_scorer:missing", "has no function missing"),
        ("python:no_such_module:build", "module no_such_module cannot be imported"),
    ],
)
def test_a_factory_that_is_none_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, sentence: str
) -> None:
    """Whatever somebody else's code does, a person reads what it was."""
    save_rows(tmp_path)
    (tmp_path / "shop_scorer.py").write_text(MODULE, encoding="utf-8")

    assert sentence in refused(tmp_path, recipe(tmp_path, source=source), capsys)


def test_rows_that_calibrate_and_judge_are_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their hash, whatever file or place they are in, and before anything is measured."""
    gate, calibration = rows(900, 2), rows(256, 1)
    for name in calibration:
        calibration[name][7] = gate[name][400]
    np.savez(shop / "calibration.npz", **calibration)  # type: ignore[arg-type]

    said = refused(shop, recipe(shop), capsys)

    assert "1 of its rows are also in data.gate (the first is row 7)" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"features": np.zeros((5, 11), np.float32)}, "has shape (5, 11), the model takes ('B', 12)"),
        ({"features": np.zeros((5, 12))}, "is float64, the model takes float32"),
        ({"features": np.full((5, 12), np.nan, np.float32)}, "not finite"),
        ({"extra": np.zeros(5)}, "array 'extra' is no input of the model"),
        ({"product": np.zeros(4, np.int64)}, "array 'product' has shape (4,)"),
        ({"clicked": np.zeros(4)}, "must have a value for each of 5 rows"),
        ({"clicked": None}, "array 'clicked' is missing"),
        ({"features": None}, "array 'features' is missing"),
    ],
)
def test_rows_that_do_not_fit_are_a_sentence(
    shop: Path, capsys: pytest.CaptureFixture[str], change: dict[str, np.ndarray | None], sentence: str
) -> None:
    """Which array, what it is, what is needed."""
    arrays = {**rows(5, 3, labels=True), **change}
    np.savez(shop / "gate.npz", **{name: one for name, one in arrays.items() if one is not None})  # type: ignore[arg-type]

    assert sentence in refused(shop, recipe(shop), capsys)


def test_an_operator_that_is_not_supported_is_named_with_its_node(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of this opset, of another domain, or without a kernel: which, and where in the graph."""
    model = graph(activation="Swish")  # of opset 24 only
    onnx.save(model, str(shop / "scorer.onnx"))
    assert "operator Swish of node 'activation' is not in ai.onnx 17" in refused(shop, recipe(shop), capsys)

    model = graph()
    model.graph.node[3].domain = "com.somebody"
    model.opset_import.append(helper.make_opsetid("com.somebody", 1))
    onnx.save(model, str(shop / "scorer.onnx"))
    assert "operator com.somebody.Relu of node 'activation' is not of ai.onnx" in refused(
        shop, recipe(shop), capsys
    )


@pytest.mark.parametrize(
    ("opset", "sentence"), [(25, "opset 25 is newer than 24"), (6, "opset 6 is older than 7")]
)
def test_an_opset_that_cannot_be_raised_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str], opset: int, sentence: str
) -> None:
    """With what to export it at."""
    onnx.save(graph(opset), str(shop / "scorer.onnx"))

    said = refused(shop, recipe(shop), capsys)

    assert sentence in said and "opset_version=24" in said


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "link.bin", "sub/../../secret.bin"])
def test_weights_outside_the_models_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], location: str
) -> None:
    """No file of this machine becomes part of a model because the model says so."""
    shop = tmp_path / "shop"
    shop.mkdir()
    save_rows(shop)
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 64 * 20))
    (shop / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = graph()
    first = next(one for one in model.graph.initializer if one.name == "first")
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    entry = first.external_data.add()
    entry.key, entry.value = "location", location
    (shop / "scorer.onnx").write_bytes(model.SerializeToString())

    said = refused(shop, recipe(shop), capsys)

    assert "weights of 'first'" in said and ("own folder" in said or "lead out of" in said)


def test_weights_beside_the_model_are_read_and_counted(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """External data is part of the build, published inside one file, and noticed when it is cut short."""
    (shop / "scorer.onnx").unlink()
    onnx.save(
        graph(),
        str(shop / "scorer.onnx"),
        save_as_external_data=True,
        location="scorer.weights",
        size_threshold=0,
    )
    opened = built(shop, recipe(shop, precision="fp32"))
    assert "scorer.weights" in opened.manifest.provenance.data
    assert {one.path for one in opened.manifest.files} == {
        "golden.npz",
        "model.onnx",
        "report.html",
        "report.json",
    }

    weights = (shop / "scorer.weights").read_bytes()
    (shop / "scorer.weights").write_bytes(weights[: len(weights) // 2])
    assert "it is cut short" in refused(shop, recipe(shop), capsys)


def test_what_is_no_model_is_a_sentence(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes of anything, nothing at all, and a file that is not there."""
    for data in (b"", b"\x00" * 100, b"not a model"):
        (shop / "scorer.onnx").write_bytes(data)
        assert "is no ONNX model" in refused(shop, recipe(shop), capsys)
    (shop / "scorer.onnx").unlink()
    assert "cannot be read" in refused(shop, recipe(shop), capsys)


def test_a_plan_is_built_from_the_very_numbers_that_serve(shop: Path, published: Path) -> None:
    """TensorRT takes INT8 tables in another form; what its builder reads gives what ONNX Runtime serves."""
    pytest.importorskip("tensorrt_rtx")
    file = recipe(shop, more='[compile]\ntargets = ["onnxruntime", "tensorrt_rtx:sm86"]\n')
    opened = built(shop, file)
    given = rows(60, 9)
    session = ort.InferenceSession(str(opened.folder / "source.onnx"))

    found = session.run(None, given)[0]

    plan = opened.manifest.target("tensorrt_rtx")
    assert plan is not None and (plan.capability, plan.built_from, plan.proven) == (
        "sm86",
        "source.onnx",
        "built",
    )
    assert (opened.folder / plan.file).stat().st_size > 1000
    operators = [node.op_type for node in onnx.load(str(opened.folder / "source.onnx")).graph.node]
    assert operators.count("DequantizeLinear") == 3 and "Cast" not in operators  # table, input and matrix
    wanted = load_tensors(opened).engine.run(given)["score"]
    assert found == pytest.approx(wanted, abs=2e-3 * float(np.abs(wanted).max()))


def test_precision_is_read_from_the_graph_and_not_rounded_twice(
    shop: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that comes quantized is served as it came, and is not said to be FP32."""
    opened = opened_in(published, "int8")
    (shop / "scorer.onnx").write_bytes((opened.folder / "model.onnx").read_bytes())

    said = refused(shop, recipe(shop), capsys)
    assert "is int8 already" in said
    assert built(shop, recipe(shop, precision="fp32")).manifest.targets[0].precision == "int8"


def test_a_candidate_that_loses_too_much_is_refused_or_its_parent_published(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the figure, the limit and what to do; and what serves then is the model as it came."""
    more = "max_error = 0.000001\n"
    said = refused(shop, recipe(shop, more=more), capsys, code=4)
    assert "root mean square difference to the FP32 parent" in said and "quantize.exclude" in said

    more += 'on_refused = "publish_parent"\n'
    opened = built(shop, recipe(shop, more=more))
    assert opened.manifest.targets[0].precision == "fp32"


def test_a_version_that_answers_otherwise_is_not_loaded(published: Path, tmp_path: Path) -> None:
    """The golden replay of somebody's own model is as strict as that of ours."""
    opened = opened_in(published, "fp32")
    copy = tmp_path / "copy"
    shutil.copytree(opened.folder, copy)
    model = onnx.load(str(copy / "model.onnx"))
    for one in model.graph.initializer:
        if one.name == "second_bias":
            one.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), one.name))
    onnx.save(model, str(copy / "model.onnx"))

    with pytest.raises(ArtifactError, match="golden replay differs"):
        load_tensors(OpenedVersion(manifest=opened.manifest, folder=copy))


def test_tensors_that_do_not_fit_are_refused_before_the_runtime_sees_them(published: Path) -> None:
    """Name, what was given, what is needed; the engine answers the next one."""
    engine = load_tensors(opened_in(published, "fp32")).engine
    for change, sentence in (
        ({"features": np.zeros((2, 12))}, "features: dtype float64, needs float32"),
        ({"product": np.zeros(3, np.int64)}, "product: shape"),
        ({"other": np.zeros(2)}, "other: no input of this model"),
        (
            {"features": np.zeros((65, 12), np.float32), "product": np.zeros(65, np.int64)},
            "65 rows in the batch",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            engine.run({**rows(2, 1), **change})
    assert engine.run(rows(2, 1))["score"].shape == (2, 1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(rows(2, 1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('source = "onnx:"', "source is 'onnx:'"),
        ('source = "python:a b:c"', 'write "python:package.module:factory"'),
        ('source = "onnx:x.onnx"\n[files]\nweights = "w"', "files and options are for a factory"),
        ('source = "onnx:x.onnx"\n[compile]\ntargets = ["onnxruntime", "tensorrt"]\n[quantize]\nprecision = "int8_dynamic"',
         "TensorRT has no dynamic ranges"),
        ('source = "onnx:x.onnx"\n[quantize]\nprecision = "int8"', "data.calibration is missing"),
        ('source = "onnx:x.onnx"\n[gate]\nmetric = "auc"', "data.labels is missing"),
        ('source = "onnx:x.onnx"\n[gate]\nmetric = "auk"', "metric is 'auk'; use one of"),
        ('source = "onnx:x.onnx"\n[serve]\nmax_batch = 8\n[gate]\nbatch_sizes = [32]', "serve.max_batch is 8"),
    ],
)  # fmt: skip
def test_a_recipe_that_contradicts_itself_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    """Before anything is read or built."""
    file = tmp_path / "own.toml"
    source, _, rest = text.partition("\n")
    file.write_text(
        f'kind = "own"\n{source}\n[model]\nname = "x"\n[data]\ngate = "gate.npz"\n{rest}\n', encoding="utf-8"
    )

    assert sentence in refused(tmp_path, file, capsys, code=2)


def test_kept_results_are_whole_or_made_again_and_a_build_is_not_published_twice(published: Path) -> None:
    """A stage's result whose files were cut short is made again; the same build is the version that there is."""
    opened = opened_in(published, "int8")
    (quantized,) = (
        folder
        for folder in (published / "workspace" / "own-quantize").glob("[!.]*")
        if b'"precision": "int8",' in (folder / "stage.json").read_bytes()
    )
    (quantized / "candidate.onnx").write_bytes(b"half")

    again = built(published, recipe(published))

    assert (quantized / "candidate.onnx").stat().st_size > 1000
    assert again.manifest.version == opened.manifest.version
