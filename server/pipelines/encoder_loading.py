"""From an opened encoder version to what the token batcher serves: tokenizer, engine, intents; warmed and replayed.

**The contract of an encoder version** (whoever publishes one keeps it; ``load_encoder`` refuses what does not):

* ``task``: ``"sentence_encoding"`` (``encoder_domain.ENCODER_TASK``).
* ``graph``: ``"model.onnx"``: inputs ``input_ids[B,T]`` and ``lengths[B]``, both int64 (padded on the right with anything that
  is a token, each length at least 1; mask and positions are made in the graph); outputs ``embedding[B,D]`` float32 (pooled, and
  of length 1 where ``normalize`` says so) and, where the version has an intent head, ``logits[B,C]`` float32, not yet divided
  by the temperature.
* ``files``: the graph (weights inside it, or beside it in ``model.weights``), ``tokenizer.json``, ``encoder.json``,
  ``golden.npz``, and ``intents.json`` exactly where there are ``logits``. ``config.json`` and ``tokenizer_config.json`` are
  there for people, and are not read.
* ``tokenizer.json`` may pad and truncate; the server switches both off. It adds the special tokens of one text itself.
* ``encoder.json``: ``{"pooling": "mean" | "cls", "normalize": true, "dim": D, "dims": [D, ...], "max_tokens": n, "prefixes":
  {"query": "", "passage": "", "plain": ""}}``. ``dims`` are the widths that may be asked for, widest first (Matryoshka: the
  first values of a vector, made of length 1 again); one alone: the vector cannot be cut. ``max_tokens`` counts special
  tokens. A prefix stands before the text, its blank with it.
* ``intents.json``: ``{"labels": [C names], "temperature": t, "threshold": p}`` as ``build_engines.intents.head`` says.
* ``limits``: ``max_tokens`` (as above), ``vocab_size`` (ids below it), ``dim`` (D). ``constants``: none. ``parameters``: ``{}``.
* ``targets``: one of kind ``"onnxruntime"`` with file ``"model.onnx"``, its precision ("fp32", "int8"); TensorRT plans may
  stand behind it. ``cost`` is of a batch of n texts of ``cost_tokens`` tokens (a figure of ``figures``).
* ``golden.npz`` (``artifacts.golden``): ``input_ids`` and ``lengths`` of 8 texts or so of different lengths, and the outputs that
  they gave. Each vector must have a cosine of at least ``parity.min_overlap`` with the recorded one, each logit may differ by
  ``parity.score_abs``.
* ``figures``: ``"cosine_fp32"`` (mean, to the FP32 parent), ``"parameters"``, ``"size_bytes"``, ``"cost_tokens"``;
  ``flags``: ``"trained_small"`` where the encoder was trained by the builder and is no pretrained one.

Units: tokens; bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, read_golden
from server.artifacts.manifest import Manifest, Target
from server.artifacts.repository import OpenedVersion
from server.batching.token_batch import TokenModel
from server.encoder_domain import ENCODER_TASK, EncoderInfo, InputKind
from server.encoding.sentences import TOKENIZER_FILE, SentenceCodec, load_sentence_codec
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder
from server.pipelines.encoder_cost import budget_for, measure_cost
from server.pipelines.encoder_golden import replay_golden

RUNNER = "onnxruntime"
ENCODER_FILE, INTENTS_FILE = "encoder.json", "intents.json"
_Json = TypeVar("_Json", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLoadOptions:
    """How versions are loaded.

    Attributes:
        threads: of the engine (> 0).
        batch_tokens: largest batch, padding included; 0: by what a batch costs here.
    """

    threads: int = 1
    batch_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderModel:
    """One version, ready to serve.

    Attributes:
        info: what it is.
        codec: texts to tokens.
        tokens: tokens to vectors, with what a batch costs on this machine, measured at load.
    """

    info: EncoderInfo
    codec: SentenceCodec
    tokens: TokenModel


class _EncoderJson(msgspec.Struct, forbid_unknown_fields=True):
    pooling: str
    normalize: bool
    dim: int
    dims: list[int]
    max_tokens: int
    prefixes: dict[str, str] = {}


class _IntentsJson(msgspec.Struct):
    labels: list[str]
    temperature: float
    threshold: float


def load_encoder(opened: OpenedVersion, options: EncoderLoadOptions | None = None) -> EncoderModel:
    """Load, replay and time one version.

    Args:
        opened: a verified version.
        options: how.

    Raises:
        ArtifactError: not an encoder, no target for the runner, files that do not load or do not fit each other, or golden
            texts that it encodes otherwise than it did; says which and what to do.
    """
    where = f"{opened.manifest.model} version {opened.manifest.version}"
    try:
        return _load(opened, options or EncoderLoadOptions(), where)
    except KeyError as error:
        raise ArtifactError(f"{where}: {error} is missing; build and publish it again") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{where}: cannot be loaded: {error}") from error


def _load(opened: OpenedVersion, options: EncoderLoadOptions, where: str) -> EncoderModel:
    manifest = opened.manifest
    if manifest.task != ENCODER_TASK:
        raise ValueError(f"task is {manifest.task!r}, an encoder's is {ENCODER_TASK!r}")
    limits = manifest.limits
    config = _read(opened.path(ENCODER_FILE), _EncoderJson)
    _check_config(config, manifest)
    codec = load_sentence_codec(
        opened.path(TOKENIZER_FILE),
        vocab_size=limits["vocab_size"],
        max_tokens=limits["max_tokens"],
        prefixes={kind: config.prefixes.get(kind.value, "") for kind in InputKind},
    )
    target = _target(manifest)
    engine = OnnxRuntimeEncoder(opened.path(target.file), threads=options.threads)
    try:
        if engine.dim != config.dim:
            raise ValueError(f"the graph's vectors are {engine.dim} wide, {ENCODER_FILE} says {config.dim}")
        intents = _read(opened.path(INTENTS_FILE), _IntentsJson) if engine.intents else None
        if intents is not None:
            _check_intents(intents, engine.intents)
        replay_golden(engine, read_golden(opened.path(GOLDEN_FILE)), manifest.parity, where)
        cost = measure_cost(engine, max_tokens=limits["max_tokens"])
        return EncoderModel(
            info=_info(manifest, target, config, intents),
            codec=codec,
            tokens=TokenModel(
                engine=engine,
                cost=cost,
                budget=budget_for(cost, options.batch_tokens),
                normalized=config.normalize,
            ),
        )
    except BaseException:
        engine.close()
        raise


def _info(
    manifest: Manifest, target: Target, config: _EncoderJson, intents: _IntentsJson | None
) -> EncoderInfo:
    return EncoderInfo(
        name=manifest.model,
        version=manifest.version,
        engine=target.kind,
        precision=target.precision,
        dim=config.dim,
        dims=tuple(config.dims),
        max_tokens=manifest.limits["max_tokens"],
        labels=tuple(intents.labels) if intents else (),
        temperature=intents.temperature if intents else 1.0,
        threshold=intents.threshold if intents else 0.0,
        created_s=int(manifest.created_unix_s),
        flags=manifest.flags,
    )


def _check_config(config: _EncoderJson, manifest: Manifest) -> None:
    limits = manifest.limits
    for name, value in (("dim", config.dim), ("max_tokens", config.max_tokens)):
        if value != limits[name]:
            raise ValueError(f"{ENCODER_FILE} has {name} = {value}, the manifest's limit is {limits[name]}")
    dims = config.dims
    if not dims or dims[0] != config.dim or dims != sorted(set(dims), reverse=True) or dims[-1] < 1:
        raise ValueError(f"{ENCODER_FILE} has dims = {dims}, must be widths from {config.dim} downwards")
    unknown = sorted(set(config.prefixes) - {kind.value for kind in InputKind})
    if unknown:
        raise ValueError(f"{ENCODER_FILE} has prefixes for {unknown}; known are {[*InputKind]}")


def _check_intents(intents: _IntentsJson, columns: int) -> None:
    if len(intents.labels) != columns or len(set(intents.labels)) != columns:
        raise ValueError(
            f"{INTENTS_FILE} has {len(intents.labels)} labels, the graph's logits are {columns} wide"
        )
    if not 0.0 < intents.temperature < math.inf or not 0.0 <= intents.threshold <= 1.0:
        raise ValueError(
            f"{INTENTS_FILE} has temperature {intents.temperature} (must be > 0) and threshold {intents.threshold} "
            "(must be 0 .. 1)"
        )


def _read(path: Path, kind: type[_Json]) -> _Json:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: {error}; build and publish it again") from error


def _target(manifest: Manifest) -> Target:
    target = manifest.target(RUNNER)
    if target is None:
        have = ", ".join(sorted({target.kind for target in manifest.targets}))
        raise ValueError(f"no target for {RUNNER}, it has {have}; build with that target in the recipe")
    return target
