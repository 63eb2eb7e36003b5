"""A published encoder of a few hundred words: real tokenizer, graph, engine and golden texts; a text's vector is its words'.

Texts that share words are near each other, so that tests of retrieval can use it. Where labels are given, a text's intent is
the label that it spells.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from build_engines.version_files import with_files
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Manifest,
    Target,
    TensorInfo,
    Tolerance,
)
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.encoder_domain import ENCODER_TASK
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder
from server.pipelines.encoder_golden import record_golden
from tests.server.artifact_cases import PASSED, make_manifest

MODEL = "tiny-encoder"
DIM, MAX_TOKENS = 32, 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = tuple(
    [
        "a",
        "about",
        "and",
        "arrive",
        "back",
        "box",
        "broken",
        "buy",
        "cancel",
        "card",
        "cash",
        "cost",
        "customs",
        "days",
        "delivery",
        "do",
        "does",
        "exchange",
        "for",
        "free",
        "from",
        "get",
        "give",
        "how",
        "i",
        "in",
        "is",
        "it",
        "item",
        "kettle",
        "late",
        "long",
        "lost",
        "may",
        "money",
        "month",
        "mug",
        "my",
        "never",
        "not",
        "of",
        "on",
        "order",
        "pay",
        "person",
        "please",
        "refund",
        "return",
        "returns",
        "send",
        "ship",
        "shipping",
        "shoes",
        "size",
        "small",
        "sold",
        "stock",
        "take",
        "talk",
        "the",
        "this",
        "time",
        "to",
        "track",
        "voucher",
        "wait",
        "want",
        "warranty",
        "wash",
        "what",
        "when",
        "where",
        "which",
        "will",
        "with",
        "word",
        "work",
        "wrong",
        "you",
        "your",
        "query",
        "passage",
        ":",
        "?",
        ".",
        ",",
        "!",
    ]
) + tuple("我想要退货什么时候到运费多少尺码大小保修订单的了吗有没人工客服")


@dataclass(frozen=True, slots=True)
class TinyEncoder:
    """A repository with one encoder version, and the folder it was published from."""

    repository: Path
    staging: Path
    opened: OpenedVersion


def tiny_tokenizer() -> Tokenizer:
    """Whole words, lower case, Chinese characters alone; everything else is [UNK]."""
    vocab = {token: at for at, token in enumerate(dict.fromkeys((*SPECIAL, *WORDS)))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer


def word_table(tokenizer: Tokenizer) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """A direction a word, the same whatever else is in the vocabulary."""
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    table = np.zeros((max(vocab.values()) + 1, DIM), np.float32)
    for token, at in vocab.items():
        table[at] = np.random.default_rng(zlib.crc32(token.encode())).normal(size=DIM)
    table[: len(SPECIAL)] *= 0.1
    return table


def tiny_graph(
    table_VD: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    head_CD: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None,
) -> onnx.ModelProto:
    """The mean of a text's words, of length 1; what lies behind its length is not read."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["t1"], start=1, end=2),
        helper.make_node("Squeeze", ["t1"], ["t"]),
        helper.make_node("Range", ["zero", "t", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["lengths", "axis1"], ["lengths_B1"]),
        helper.make_node("Less", ["places", "lengths_B1"], ["inside"]),
        helper.make_node("Cast", ["inside"], ["inside_f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["inside_f", "axis2"], ["inside_BT1"]),
        helper.make_node("Gather", ["words", "input_ids"], ["rows"]),
        helper.make_node("Mul", ["rows", "inside_BT1"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis1"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum", "axis1"], ["norm"], keepdims=1),
        helper.make_node("Div", ["sum", "norm"], ["embedding"]),
    ]
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "words": table_VD,
    }
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", DIM])]
    if head_CD is not None:
        constants["head"] = np.ascontiguousarray(head_CD.T)
        nodes.append(helper.make_node("MatMul", ["embedding", "head"], ["logits"]))
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", len(head_CD)]))
    graph = helper.make_graph(
        nodes,
        "tiny-encoder",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
        ],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)


def publish_tiny_encoder(
    folder: Path,
    repository: Path,
    *,
    model: str = MODEL,
    labels: Sequence[str] = (),
    prefixes: dict[str, str] | None = None,
    dims: Sequence[int] = (DIM, 16),
    turned: bool = False,
) -> TinyEncoder:
    """Make an encoder, record its golden texts, publish it; ``turned`` makes another one of the same words."""
    staging = folder / "staging-encoder"
    staging.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(staging / "tokenizer.json"))
    table_VD = word_table(tokenizer)
    head_CD = None
    if labels:
        rows = [
            table_VD[tokenizer.encode(label, add_special_tokens=False).ids].sum(axis=0) for label in labels
        ]
        head_CD = np.stack([8.0 * row / np.linalg.norm(row) for row in rows]).astype(np.float32)
        intents = {"labels": list(labels), "temperature": 1.0, "threshold": 0.5}
        (staging / "intents.json").write_text(json.dumps(intents), encoding="utf-8")
    if turned:
        table_VD = np.ascontiguousarray(table_VD[:, ::-1])
    onnx.save(tiny_graph(table_VD, head_CD), str(staging / "model.onnx"))
    config = {
        "pooling": "mean",
        "normalize": True,
        "dim": DIM,
        "dims": list(dims),
        "max_tokens": MAX_TOKENS,
        "prefixes": prefixes or {},
    }
    (staging / "encoder.json").write_text(json.dumps(config), encoding="utf-8")
    engine = OnnxRuntimeEncoder(staging / "model.onnx")
    texts = ["where is my order ?", "return", "how long does shipping take , please ?", "我想退货"]
    write_golden(staging / GOLDEN_FILE, record_golden(engine, [tokenizer.encode(text).ids for text in texts]))
    engine.close()
    outputs = [TensorInfo(name="embedding", dtype="float32", shape=("B", DIM))]
    if labels:
        outputs.append(TensorInfo(name="logits", dtype="float32", shape=("B", len(labels))))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=model,
        version="0",
        task=ENCODER_TASK,
        created_unix_s=0.0,
        graph="model.onnx",
        files=(),
        inputs=(
            TensorInfo(name="input_ids", dtype="int64", shape=("B", "T")),
            TensorInfo(name="lengths", dtype="int64", shape=("B",)),
        ),
        outputs=tuple(outputs),
        constants=(),
        limits={"max_tokens": MAX_TOKENS, "vocab_size": len(table_VD), "dim": DIM},
        parameters={},
        targets=(Target(kind="onnxruntime", file="model.onnx", precision="fp32"),),
        parity=Tolerance(score_abs=1e-2, min_overlap=0.999),
        evidence=(PASSED,),
        figures={},
        provenance=make_manifest(folder / "empty").provenance,
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))
    return TinyEncoder(repository, staging, Releases(repository=repository).publish(staging, model))


def change_file(staging: Path, name: str, **changes: object) -> None:
    """Change fields of a JSON file of a version that is to be published, files hashed anew."""
    path = staging / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    manifest = msgspec.json.decode((staging / MANIFEST_FILE).read_bytes(), type=Manifest)
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))
