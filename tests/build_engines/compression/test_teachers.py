"""Teachers elsewhere: what they said is kept, what they cannot say is told, and a server is asked with bounded patience."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from build_engines.compression import distil
from build_engines.compression.distil import DistilOptions
from build_engines.compression.model import Compressible, Traces
from build_engines.compression.teacher_answers import Ids
from build_engines.compression.teacher_cache import AnswerCache
from build_engines.compression.teacher_endpoint import TRIES, Endpoint
from build_engines.compression.teacher_onnx import OnnxTeacher
from build_engines.errors import BuildError, WorkspaceError
from tests.build_engines.compression.learning_cases import Killed, KilledAt, student, teacher, work
from tests.build_engines.compression.tiny_model import TinyModel

LEARNS: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2}


def test_an_answer_is_found_again_and_only_that_teachers(tmp_path: Path) -> None:
    """Kept arrays come back to the bit in another process' hands; another teacher or example has none."""
    kept = {"ids": np.arange(5), "logits": np.ones((2, 3), np.float32)}
    AnswerCache(tmp_path / "a.sqlite", "one").put({b"x": kept, b"y": {"ids": np.zeros(0, np.int64)}})

    again = AnswerCache(tmp_path / "a.sqlite", "one")
    found, empty, other = again.get([b"x", b"y", b"z"])

    assert found is not None and all(np.array_equal(found[name], kept[name]) for name in kept)
    assert empty is not None and len(empty["ids"]) == 0 and other is None
    assert AnswerCache(tmp_path / "a.sqlite", "two").get([b"x"]) == [None]


def test_answers_are_kept_all_or_none(tmp_path: Path) -> None:
    """Something that cannot be kept in a group leaves nothing of it behind."""
    cache = AnswerCache(tmp_path / "a.sqlite", "one")
    with pytest.raises(ValueError):
        cache.put({b"x": {"ids": np.arange(3)}, b"y": {"ids": np.array([object()])}})

    assert len(cache) == 0


def test_a_file_that_is_no_cache_is_said(tmp_path: Path) -> None:
    """Path, reason, and what to do."""
    (tmp_path / "a.sqlite").write_bytes(b"not a database at all" * 100)

    with pytest.raises(
        WorkspaceError, match=r"a.sqlite: the teacher's answers cannot be kept .*delete the file"
    ):
        AnswerCache(tmp_path / "a.sqlite", "one")


class Server:
    """Says what a script says, then the prompt turned around; counts."""

    def __init__(self, script: Sequence[tuple[int, Any]] = ()) -> None:
        self.script, self.asked = list(script), list[dict[str, Any]]()
        self.headers: dict[str, str] = {}
        self.lock = threading.Lock()

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            self.asked.append(body)
            if self.script:
                return self.script.pop(0)
        text = (body["prompt"] if "prompt" in body else body["messages"][0]["content"])[::-1]
        if path.endswith("/chat/completions"):
            return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        return 200, {"choices": [{"text": text, "finish_reason": "stop"}]}


@contextmanager
def serving(server: Server) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.headers = dict(self.headers)
            status, told = server.reply(self.path, body)
            sent = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize("chat", [False, True])
def test_a_server_answers_in_the_order_of_the_prompts(chat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked greedily by its name, with the key from the environment."""
    monkeypatch.setenv("A_KEY", "secret-7")
    server = Server()
    with serving(server) as address:
        teaching = Endpoint(address=address, model="big", chat=chat, key_variable="A_KEY")

        told = teaching.answers([f"prompt {n}" for n in range(20)], 9)

    assert told == [f"prompt {n}"[::-1] for n in range(20)]
    assert server.asked[0]["model"] == "big" and server.asked[0]["temperature"] == 0
    assert server.asked[0]["max_tokens"] == 9 and server.headers["Authorization"] == "Bearer secret-7"
    assert "secret-7" not in teaching.identity


def test_what_may_pass_is_tried_again_and_waits_longer_each_time() -> None:
    """Busy twice, then an answer; cut off at its limit: no answer."""
    waits: list[float] = []
    cut = (200, {"choices": [{"text": "x", "finish_reason": "length"}]})
    server = Server([(503, {}), (429, {}), cut])
    with serving(server) as address:
        told = Endpoint(address=address, model="big", sleep=waits.append).answers(["p"], 5)

    assert told == [None] and waits == [0.5, 1.0]


@pytest.mark.parametrize(
    ("script", "sentence", "asked"),
    [
        ([(503, {})] * TRIES, rf"did not answer in {TRIES} tries \(status 503", TRIES),
        ([(404, {"error": "no model big"})], "refuses: status 404: .*no model big", 1),
        ([(200, {"choices": []})], "answers in another form", 1),
        ([(200, b"<html>")], "answers with no JSON", 1),
    ],
)
def test_a_server_that_does_not_answer_ends_the_step_with_what_it_said(
    script: list[tuple[int, Any]], sentence: str, asked: int
) -> None:
    """Bounded tries for what may pass, none for what will not."""
    server = Server(script)
    with serving(server) as address, pytest.raises(BuildError, match=sentence):
        Endpoint(address=address, model="big", sleep=lambda s: None).answers(["p"], 5)
    assert len(server.asked) == asked


def test_a_server_that_is_down_is_said() -> None:
    """No listener: name, reason, what to do; nothing waits for real."""
    with pytest.raises(
        BuildError, match=r"big at http://127.0.0.1:9/v1 did not answer .* start it and run this again"
    ):
        Endpoint(address="http://127.0.0.1:9/v1", model="big", sleep=lambda s: None).answers(["p"], 5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"address": "ftp://x/v1"}, "write it as http://HOST:PORT/v1"),
        ({"address": "http://x:p@x/v1"}, "write it as http://HOST:PORT/v1"),
        ({"key_variable": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE, which is not set"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_said_at_once(changes: dict[str, str], sentence: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(BuildError, match=sentence):
        Endpoint(**{"address": "http://localhost/v1", "model": "big", **changes})


class Writing(TinyModel):
    """The tiny model as a writer: its prompts are the first three tokens, its answers what a rule says."""

    def answering(self) -> Writing:
        return self

    def prompts(self) -> list[Ids]:
        return [text[:3] for text in self._texts[:96]]

    def prompt_text(self, prompt: Ids) -> str:
        return " ".join(map(str, prompt))

    def answer_ids(self, text: str) -> Ids:
        return np.array([int(one) % 24 for one in text.split()], np.int64)

    def answered(self, answers: Mapping[int, Ids]) -> Compressible:
        prompts = self.prompts()
        other = Writing(self.sizes, net=self.module)
        learnt = [np.concatenate([prompts[at], ids])[:10] for at, ids in sorted(answers.items())]
        other._texts = learnt * (96 // len(learnt)) + learnt[: 96 % len(learnt)] + self._texts[96:]
        return other

    def writer(self, folder: Path) -> Callable[[Sequence[Ids], int], list[Ids]]:
        net = TinyModel()
        net.module.load_state_dict(torch.load(folder / "tiny.pt"))

        def write(prompts: Sequence[Ids], most: int) -> list[Ids]:
            found = []
            for prompt in prompts:
                ids = prompt.tolist()
                for _ in range(most):
                    seen = torch.tensor([ids])
                    ids.append(
                        int(net.module(seen, torch.ones_like(seen, dtype=torch.bool))[0][0, -1].argmax())
                    )
                found.append(np.array(ids[len(prompt) :], np.int64))
            return found

        return write


def small_writer() -> Writing:
    small = student()
    return Writing(small.sizes, net=small.module)


class SavedAs(Writing):
    """A parent whose folder looks like a checkpoint."""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().save(folder)
        (folder / "config.json").write_text("{}")


def test_a_student_learns_what_its_parent_writes(tmp_path: Path) -> None:
    """Answers are written once, kept, and learnt; the student is better on texts that nobody wrote for it."""
    parent = SavedAs(net=teacher().module)
    options = DistilOptions(**LEARNS, answers=True, answer_tokens=6)
    said = KilledAt(0)
    steps: list[float] = []
    said.step = lambda what, done, total, note="": steps.append(done) if what.startswith("teacher") else None  # type: ignore[method-assign]

    _, record = distil.STEP.run(small_writer(), options, work(tmp_path, parent, said))

    assert record.figures["loss after"] < record.figures["loss before"] - 0.3
    assert steps == [16, 32, 48, 64, 80, 96] and "96 answers" in record.said


def test_answers_of_a_server_survive_a_kill(tmp_path: Path) -> None:
    """Killed after 48 of 96: the second run asks for the other 48 only."""
    server = Server()
    with serving(server) as address:
        options = DistilOptions(
            **LEARNS, answers=True, answer_tokens=6, endpoint=address, endpoint_model="big"
        )
        with pytest.raises(Killed):
            distil.STEP.run(small_writer(), options, work(tmp_path, teacher(), KilledAt(48)))
        first = len(server.asked)
        distil.STEP.run(small_writer(), options, work(tmp_path, teacher()))

    prompts = {one.tobytes() for one in small_writer().prompts()}
    assert first == 48 and len(server.asked) <= first + 48 and len(prompts) <= len(server.asked)


def test_who_does_not_write_says_so(tmp_path: Path) -> None:
    """answers is for decoders."""
    with pytest.raises(BuildError, match="a decoder writes none"):
        distil.STEP.run(student(), DistilOptions(answers=True), work(tmp_path, teacher()))


class Graphed(TinyModel):
    """An "encoder" whose vector is the mean of its tokens' rows, and which says what a graph gets."""

    def traces(self, batch: Sequence[int]) -> Traces:
        seen = super().traces(batch)
        mask = seen.visible_BT[..., None]
        return replace(seen, logits_PC=None, embedding_BE=(seen.hidden_BTD[-1] * mask).sum(1) / mask.sum(1))

    def inputs(self, example: int) -> dict[str, Ids]:
        return {"input_ids": self._texts[example]}


def graph(path: Path, *, output: str = "embedding", wanted: str = "input_ids") -> np.ndarray[Any, Any]:
    """Mean of rows of a table of 24 x 16."""
    table = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    ids = ir.Value(name=wanted, shape=ir.Shape(["B", "T"]), type=ir.TensorType(ir.DataType.INT64))
    kept = ir.Value(
        name="table",
        const_value=ir.tensor(table, name="table"),
        shape=ir.Shape([24, 16]),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    axes = ir.Value(
        name="axes",
        const_value=ir.tensor(np.array([1]), name="axes"),
        shape=ir.Shape([1]),
        type=ir.TensorType(ir.DataType.INT64),
    )
    rows = ir.node("Gather", [kept, ids])
    mean = ir.node("ReduceMean", [rows.outputs[0], axes], {"keepdims": 0})
    mean.outputs[0].name = output
    mean.outputs[0].type, mean.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["B", 16])
    made = ir.Graph(
        [ids], mean.outputs, nodes=[rows, mean], initializers=[kept, axes], opset_imports={"": 20}, name="g"
    )
    ir.save(ir.Model(made, ir_version=10), path)
    return table


def test_a_graph_teaches_and_is_asked_once_an_example(tmp_path: Path) -> None:
    """Its vectors are those of the file, kept by content; the student comes nearer to them."""
    table = graph(tmp_path / "t.onnx")
    pupil = Graphed(family="encoder")
    asked = OnnxTeacher(tmp_path / "t.onnx", pupil, tmp_path / "c.sqlite")
    calls: list[int] = []
    run = asked._session.run
    asked._session = type(
        "Counted",
        (),
        {"get_inputs": asked._session.get_inputs, "run": lambda self, *a: calls.append(1) or run(*a)},
    )()  # type: ignore[assignment]

    first = asked.traces([3, 5, 3])
    again = asked.traces([5, 3, 7])

    assert first.embedding_BE is not None and again.embedding_BE is not None
    assert np.allclose(first.embedding_BE[0].numpy(), table[pupil._texts[3]].mean(0), atol=1e-6)
    assert torch.equal(first.embedding_BE[1], again.embedding_BE[0])
    assert len(calls) == len({hashlib.sha256(pupil._texts[at].tobytes()).digest() for at in (3, 5, 7)})

    options = DistilOptions(**LEARNS, teacher=tmp_path / "t.onnx", embedding=1.0, judge_by="teacher")
    _, record = distil.STEP.run(pupil, options, work(tmp_path, teacher()))
    assert record.figures["loss after"] < 0.7 * record.figures["loss before"]


def test_a_graph_that_cannot_teach_is_said(tmp_path: Path) -> None:
    """No graph, outputs of no known name, and an input that nobody has."""
    pupil = Graphed(family="encoder")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    graph(tmp_path / "odd.onnx", output="answer")
    graph(tmp_path / "wants.onnx", wanted="pixels")

    with pytest.raises(BuildError, match=r"broken.onnx: cannot be loaded"):
        OnnxTeacher(tmp_path / "broken.onnx", pupil, tmp_path / "c.sqlite")
    with pytest.raises(BuildError, match=r"outputs are answer; one must be of embedding"):
        OnnxTeacher(tmp_path / "odd.onnx", pupil, tmp_path / "c.sqlite")
    with pytest.raises(BuildError, match=r"wants 'pixels'; known here are input_ids"):
        OnnxTeacher(tmp_path / "wants.onnx", pupil, tmp_path / "c.sqlite").traces([0])
