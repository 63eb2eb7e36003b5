"""From an opened text version to what the continuous batcher serves: tokenizer, engine, sampler; warmed and replayed.

**The contract of a text version** (whoever publishes one keeps it; ``load_text_model`` refuses what does not):

* ``task``: ``"text_generation"`` (``text_domain.TEXT_TASK``).
* ``graph``: ``"model.onnx"``, in the signature of ENGINE_NOTES (``input_ids[B,T], write_index[B], n_new[B], past.i.k/v
  [B,H,S,D] -> logits[B,V], present.i.k/v``); ``inputs`` and ``outputs`` are ``TextPackage.inputs`` and ``.outputs``.
* ``files``: the graph, its weight files (any names), ``tokenizer.json``; and of ``tokenizer_config.json``,
  ``chat_template.jinja``, ``generation_config.json`` and ``config.json`` those that the checkpoint has, under these names
  at the top of the folder; and ``golden.npz``. All hashed by ``describe_folder``.
* ``limits``: ``max_context`` (prompt and answer together), ``vocab_size`` (width of the logits), ``max_chunk`` (prompt
  tokens of a row and call): ``TextPackage.limits`` as it is. ``schema.REQUIRED_LIMITS`` holds them.
* ``constants``: none. ``parameters``: none is needed; ``{}``.
* ``targets``: one of kind ``"onnxruntime"`` with file ``"model.onnx"``, entry "masked" (the default), its precision
  ("fp32", "int8", "int4"); behind it perhaps a second one, ``"light.onnx"`` with entry "light", which is bound to the same
  cache, and TensorRT plans. ``cost`` is of a decode step of n texts.
* ``parity``: ``score_abs`` and ``score_rel`` are of log-probabilities, ``min_overlap`` is the share of golden tokens that
  must hold. For "fp32" 1e-2 absolute and 1.0 is what other CPUs keep; quantized matrices round activations otherwise where
  the CPU has other dot products, 0.25 and 0.9 are kept.
* ``golden.npz``: ``text_golden.record_golden(engine, prompts, tokens=..., eos_ids=...)`` on the packaged engine, written by
  ``artifacts.golden.write_golden``. 4 to 8 prompts of 16 or 32 tokens each replay in well under a second.
* ``evidence``: perplexity against the parent and whatever else was gated; ``figures``: for lists ("perplexity",
  "parameters", "size_bytes"); ``flags``: ``"demonstration"`` where a reader must know that the model is one.

Runs in a worker thread while the old version serves; nothing here touches the event loop.

Units: tokens; bytes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, read_golden
from server.artifacts.manifest import Manifest, Target
from server.artifacts.repository import OpenedVersion
from server.batching.text_model import TextModel
from server.batching.token_cost import measure
from server.encoding.text import HuggingFaceCodec, load_codec
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.text_golden import replay_golden
from server.pipelines.text_pools import pools_for
from server.sampling.constraints import GrammarCompiler
from server.sampling.numpy_sampler import NumpySampler
from server.sampling.writer import open_writer
from server.text_domain import TEXT_TASK, TextModelInfo

RUNNER = "onnxruntime"
log = logging.getLogger("vitrine.text")

REPLAY_STEPS = 32  # of the golden texts; publishing replays them whole
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLoadOptions:
    """How versions are loaded.

    Attributes:
        threads: of the engine (> 0).
        slots: texts computed at once; 0: what ``text_pools`` says.
        max_context: tokens of prompt and answer together; 0: the version's own limit.
    """

    threads: int = 1
    slots: int = 0
    max_context: int = 0


def load_text_model(opened: OpenedVersion, options: TextLoadOptions | None = None) -> TextModel:
    """Load, replay and time one version.

    Args:
        opened: a verified version.
        options: how.

    Raises:
        ArtifactError: not a text model, no target for the runner, tokenizer or graph that do not load or do not fit each
            other, or golden texts that it would not write; says which and what to do.
    """
    where = f"{opened.manifest.model} version {opened.manifest.version}"
    try:
        return _load(opened, options or TextLoadOptions(), where)
    except KeyError as error:
        raise ArtifactError(f"{where}: {error} is missing; build and publish it again") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{where}: cannot be loaded: {error}") from error


def _load(opened: OpenedVersion, options: TextLoadOptions, where: str) -> TextModel:
    manifest = opened.manifest
    if manifest.task != TEXT_TASK:
        raise ValueError(f"task is {manifest.task!r}, a text model's is {TEXT_TASK!r}")
    target = _target(manifest)
    limits = manifest.limits
    for name in TOKENIZER_FILES:
        if (opened.folder / name).exists():
            opened.path(name)  # what nobody hashed is not read
    codec = load_codec(opened.folder, max_vocab=limits["vocab_size"])
    if codec.template_fault is not None:
        log.error(
            "the chat template is broken: only whole prompts are served",
            extra={"model": where, "reason": codec.template_fault},
        )
    context = min(limits["max_context"], options.max_context or limits["max_context"])
    light = manifest.target(RUNNER, "light")
    engine = OnnxRuntimeCausal(
        opened.path(target.file),
        pools=partial(pools_for, context, options.slots),
        threads=options.threads,
        max_chunk=min(limits["max_chunk"], context),
        light=None if light is None else opened.path(light.file),
    )
    try:
        if engine.limits.vocab_size != limits["vocab_size"]:
            raise ValueError(
                f"the graph's logits are {engine.limits.vocab_size} wide, the manifest says {limits['vocab_size']}"
            )
        replay_golden(
            engine, read_golden(opened.path(GOLDEN_FILE)), manifest.parity, where, steps=REPLAY_STEPS
        )
        precision = target.precision if light is None else f"{target.precision}+{light.precision}"
        return _model(manifest, precision, codec, engine, context)
    except BaseException:
        engine.close()
        raise


def _model(
    manifest: Manifest, precision: str, codec: HuggingFaceCodec, engine: OnnxRuntimeCausal, context: int
) -> TextModel:
    vocab_size = engine.limits.vocab_size
    return TextModel(
        engine=engine,
        sampler=NumpySampler(vocab_size),
        compiler=GrammarCompiler(codec),
        codec=codec,
        writer=partial(open_writer, codec),
        info=TextModelInfo(
            name=manifest.model,
            version=manifest.version,
            engine=engine.kind,
            precision=precision,
            vocab_size=vocab_size,
            max_context=context,
            created_s=int(manifest.created_unix_s),
        ),
        costs=measure(engine),
    )


def _target(manifest: Manifest) -> Target:
    target = manifest.target(RUNNER, "masked")
    if target is None:
        have = ", ".join(sorted({target.kind for target in manifest.targets}))
        raise ValueError(f"no target for {RUNNER}, it has {have}; build with that target in the recipe")
    return target
