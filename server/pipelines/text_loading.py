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
  ("fp32", "int8", "int4"); TensorRT plans may stand behind it. ``cost`` is of a decode step of n texts.
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

from dataclasses import dataclass

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, read_golden
from server.artifacts.manifest import Manifest
from server.artifacts.repository import OpenedVersion
from server.batching.text_model import TextModel
from server.batching.token_cost import measure
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.text_golden import replay_golden
from server.text_domain import TEXT_TASK, TextModelInfo

RUNNER = "onnxruntime"
SMALLEST_POOL = 256  # tokens; smaller pools gain nothing, the engine's attention is dense in this length
DEFAULT_SLOTS = 8
POOL_SHARES = (1, 1, 2, 4)  # of the slots, by pool: a pool's memory doubles with its capacity, long texts are rare


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLoadOptions:
    """How versions are loaded.

    Attributes:
        threads: of the engine (> 0).
        slots: texts computed at once; 0: ``DEFAULT_SLOTS``.
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


def pools_for(max_context: int, slots: int) -> dict[int, int]:
    """Capacities of the KV pools, doubling up to the context, with the number of slots of each.

    Short texts are most of the traffic and a call costs by the capacity of its pool, so every slot may be in a small pool;
    the large ones have fewer, or memory would be the longest text's times the slots.
    """
    capacities = []
    capacity = SMALLEST_POOL
    while capacity < max_context:
        capacities.append(capacity)
        capacity *= 2
    capacities.append(max_context)
    shares = [POOL_SHARES[min(at, len(POOL_SHARES) - 1)] for at in range(len(capacities))]
    return {capacity: max(1, slots // share) for capacity, share in zip(capacities, shares, strict=True)}
