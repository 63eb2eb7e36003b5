"""Repositories for a fleet: the graphs bring their own tables, and a real tritonserver answers as our engines do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from bench.real_triton import MISSING, RealTriton, triton_venv
from build_engines.__main__ import main
from build_engines.errors import BuildError
from build_engines.triton.package import package
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, compare, read_golden
from server.encoding.text import load_codec
from server.engines.causal import CausalCall
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from tests.server.text_published import TinyText, publish_tiny_text
from tests.tiny import Tiny, publish_tiny

needs_triton = pytest.mark.skipif(triton_venv() is None, reason=MISSING)


@pytest.fixture(scope="module")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    folder = tmp_path_factory.mktemp("text")
    return publish_tiny_text(folder, folder / "repository")


def config_at(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


@pytest.mark.parametrize("int8", [False, True])
def test_a_laid_out_graph_gives_the_golden_answers_with_nothing_but_its_folder(
    tmp_path: Path, int8: bool
) -> None:
    """Opened as Triton's ONNX Runtime backend opens it: a path, and no table from anywhere else."""
    tiny = publish_tiny(tmp_path / "repository", int8=int8)

    laid = package(tiny.repository, tmp_path / "fleet")

    golden = read_golden(tiny.opened.path(GOLDEN_FILE))
    allowed_B = golden.inputs["candidate"].sum(axis=1)
    assert [one.name for one in laid] == ["tiny", "tiny_masked"]
    for one in laid:
        config = config_at(one.folder)
        session = ort.InferenceSession(str(one.folder / "1" / config.default_model_filename))
        rows_B = allowed_B == allowed_B.max() if one.name == "tiny" else np.ones_like(allowed_B, dtype=bool)
        feed = {each.name: golden.inputs[each.name][rows_B] for each in session.get_inputs()}
        got = dict(zip(("ids", "scores"), session.run(["ids", "scores"], feed), strict=True))
        want = {name: array[rows_B] for name, array in golden.outputs.items()}
        assert compare(want, got, tiny.opened.manifest.parity).problem is None
        assert {each.name for each in config.input} == set(feed)
        assert not list(one.folder.glob("**/popularity*"))  # the fallback tier's, which is not there


def test_a_model_that_is_laid_out_again_takes_the_place_of_the_old_one(
    own_repository: Path, tmp_path: Path
) -> None:
    """The version that is current then is there, alone, with the configuration that names it."""
    publish_tiny(own_repository)
    package(own_repository, tmp_path / "fleet")
    publish_tiny(own_repository, seed=1)

    package(own_repository, tmp_path / "fleet", models=["tiny"])

    folder = tmp_path / "fleet" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["2", "config.pbtxt", "warmup"]
    assert list(config_at(folder).version_policy.specific.versions) == [2]
    assert sorted(path.name for path in (tmp_path / "fleet").iterdir()) == ["tiny", "tiny_masked"]


def test_the_command_lays_out_and_says_what_is_wrong(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", str(tiny.repository), "--to", str(tmp_path / "fleet")]

    assert main(["package", "--for", "triton", *where, "--backend", "python"]) == 0
    assert "2 models for Triton" in capsys.readouterr().out
    assert main(["package", "--for", "triton", *where, "--model", "nope"]) == 5
    assert "nope" in capsys.readouterr().err
    with pytest.raises(BuildError, match="--version"):
        package(tiny.repository, tmp_path / "other", models=["tiny", "tiny"], version="1")
    with pytest.raises(ArtifactError, match="no model is published"):
        package(tmp_path / "empty", tmp_path / "other")


def test_a_decoder_is_laid_out_with_what_ends_its_texts(tiny_text: TinyText, tmp_path: Path) -> None:
    (laid,) = package(tiny_text.repository, tmp_path / "fleet")

    config = config_at(laid.folder)
    assert config.backend == "python" and config.model_transaction_policy.decoupled
    assert config.parameters["eos_ids"].string_value
    assert (laid.folder / laid.version / "tokenizer.json").is_file()


@needs_triton
def test_a_real_tritonserver_answers_as_our_engines_do(
    tiny: Tiny, tiny_text: TinyText, tmp_path: Path
) -> None:
    """Recommender and decoder by the python backend: rows of several widths at once, a text whole and in pieces, and a wrong row."""
    package(tiny.repository, tmp_path / "fleet", backend="python")
    (decoder,) = package(tiny_text.repository, tmp_path / "fleet")
    prompt = "red kettle"
    histories = [[5], [7, 9, 11], list(range(1, 13))]
    with (
        RealTriton(tmp_path / "fleet", log=tmp_path / "log") as server,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        with ThreadPoolExecutor(len(histories)) as pool:  # at once, so that they may share a run
            answers = list(
                pool.map(
                    lambda history: client.infer(
                        "tiny", [_ints("item_ids", [history]), _ints("exclude_ids", [history])]
                    ),
                    histories,
                )
            )
        with pytest.raises(InferenceServerException):
            client.infer("tiny", [_ints("item_ids", [[100_000]]), _ints("exclude_ids", [[0]])])
        told: list[str] = []
        ended: list[object] = []

        def hear(result: triton.InferResult | None, error: object) -> None:
            if error is not None or result is None:
                ended.append(error)
            elif (text := result.as_numpy("text_output")) is not None:
                told.append(text[0].decode())
            else:
                ended.append(None)

        wholes = {}
        for stream in (False, True):
            told, ended = [], []
            client.start_stream(hear)
            client.async_stream_infer(
                decoder.name,
                [
                    _texts("text_input", prompt),
                    _flag("stream", stream),
                    _texts("sampling_parameters", '{"max_tokens": 12, "temperature": 0}'),
                ],
                enable_empty_final_response=True,
            )
            client.stop_stream()
            assert ended in ([], [None]), ended
            wholes[stream] = "".join(told)

    for history, answer in zip(histories, answers, strict=True):
        best = -np.sort(-tiny.reference([history]), axis=1)[0, : answer.as_numpy("scores").shape[1]]
        np.testing.assert_allclose(answer.as_numpy("scores")[0], best, rtol=1e-3, atol=1e-3)
    assert wholes[True] == wholes[False] == _written_here(tiny_text, prompt, tokens=12)


def _written_here(tiny_text: TinyText, prompt: str, tokens: int) -> str:
    """The greedy text, by our own engine."""
    opened = tiny_text.opened
    codec = load_codec(opened.folder, max_vocab=opened.manifest.limits["vocab_size"])
    engine = OnnxRuntimeCausal(opened.path("model.onnx"), pools={256: 1}, threads=1)
    ids, at, written = codec.encode(prompt), 0, []
    chunk = list(ids)
    for _ in range(tokens):
        logits = engine.run(
            CausalCall(
                capacity=256,
                first_slot=0,
                input_ids_BT=np.array([chunk], np.int64),
                write_index_B=np.array([at], np.int64),
                n_new_B=np.array([len(chunk)], np.int64),
            )
        )
        at += len(chunk)
        token = int(np.argmax(logits[0]))
        if token in codec.eos_ids:
            break
        written.append(token)
        chunk = [token]
    engine.close()
    return codec.decode(written)


def _ints(name: str, rows: list[list[int]]) -> triton.InferInput:
    array = np.array(rows, np.int32)
    given = triton.InferInput(name, list(array.shape), "INT32")
    given.set_data_from_numpy(array)
    return given


def _texts(name: str, text: str) -> triton.InferInput:
    given = triton.InferInput(name, [1], "BYTES")
    given.set_data_from_numpy(np.array([text.encode()], dtype=object))
    return given


def _flag(name: str, value: bool) -> triton.InferInput:
    given = triton.InferInput(name, [1], "BOOL")
    given.set_data_from_numpy(np.array([value]))
    return given
