"""Golden texts of an encoder: the vectors that it gave when it was gated, and whether it would still give them.

The record is of token ids, so that it says something about the engine alone. A vector is the same where its direction is:
INT8 products round otherwise on CPUs with other dot products.

Suffixes: N texts, T tokens, D width, C intents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import Golden
from server.artifacts.manifest import Tolerance
from server.engines.encoder import EncoderEngine
from server.engines.onnxruntime_encoder import EMBEDDING, INPUT_IDS, LENGTHS, LOGITS, padded


def record_golden(engine: EncoderEngine, texts: Sequence[Sequence[int]]) -> Golden:
    """Encode texts in one batch, for ``golden.npz``; the builder's last stage calls this on the packaged engine.

    Args:
        engine: as it will be published.
        texts: token ids, special tokens included; of different lengths.
    """
    input_ids_NT, lengths_N = padded([np.asarray(ids, np.int64) for ids in texts])
    out = engine.run(input_ids_NT, lengths_N)
    outputs = {EMBEDDING: out.embedding_BD}
    if out.logits_BC is not None:
        outputs[LOGITS] = out.logits_BC
    return Golden(inputs={INPUT_IDS: input_ids_NT, LENGTHS: lengths_N}, outputs=outputs)


def replay_golden(engine: EncoderEngine, golden: Golden, tolerance: Tolerance, where: object) -> None:
    """Hold an engine against what is recorded, in one batch and one text at a time: padding must change nothing.

    Args:
        engine: loaded.
        golden: of the version.
        tolerance: of the manifest; ``min_overlap`` is the cosine that each vector must have with the recorded one,
            ``score_abs`` how far a logit may be off.
        where: the version, for messages.

    Raises:
        ArtifactError: the record is not one of texts, or the engine gives something else; says where and by how much.
    """
    try:
        input_ids_NT, lengths_N = golden.inputs[INPUT_IDS], golden.inputs[LENGTHS]
        wanted_ND, wanted_NC = golden.outputs[EMBEDDING], golden.outputs.get(LOGITS)
        if input_ids_NT.ndim != 2 or not len(lengths_N) == len(input_ids_NT) == len(wanted_ND) > 0:
            raise KeyError("shapes")
    except KeyError as error:
        raise ArtifactError(f"{where}: golden.npz holds no golden texts ({error}); build it again") from error
    input_ids_NT, lengths_N = input_ids_NT.astype(np.int64), lengths_N.astype(np.int64)
    if (wanted_NC is not None) != bool(engine.intents):
        raise ArtifactError(f"{where}: golden.npz and the graph do not agree on logits; build it again")
    together = engine.run(input_ids_NT, lengths_N)
    alone = [
        engine.run(input_ids_NT[[row], :length], lengths_N[[row]]) for row, length in enumerate(lengths_N)
    ]
    embeddings = (together.embedding_BD, np.concatenate([out.embedding_BD for out in alone]))
    problem = next((text for got in embeddings if (text := _differs(got, wanted_ND, tolerance))), None)
    if problem is None and wanted_NC is not None:
        columns = (
            together.logits_BC,
            np.concatenate([out.logits_BC for out in alone if out.logits_BC is not None]),
        )
        problem = next((text for got in columns if (text := _logits_differ(got, wanted_NC, tolerance))), None)
    if problem is not None:
        raise ArtifactError(
            f"{where}: golden replay differs on {engine.kind}: {problem}; this version is not served, build it again"
        )


def _differs(
    got_ND: npt.NDArray[np.float32], wanted_ND: npt.NDArray[np.float32], tolerance: Tolerance
) -> str | None:
    if got_ND.shape != wanted_ND.shape:
        return f"vectors are {got_ND.shape}, recorded are {wanted_ND.shape}"
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths_N = np.linalg.norm(got_ND, axis=1) * np.linalg.norm(wanted_ND, axis=1)
        cosines_N = (got_ND * wanted_ND).sum(axis=1) / lengths_N
    worst = int(np.argmin(np.where(np.isfinite(cosines_N), cosines_N, -np.inf)))
    if not cosines_N[worst] >= tolerance.min_overlap - 1e-6:
        return f"text {worst + 1} has a cosine of {cosines_N[worst]:.5f}, must be {tolerance.min_overlap:.5g}"
    return None


def _logits_differ(
    got_NC: npt.NDArray[np.float32] | None, wanted_NC: npt.NDArray[np.float32], tolerance: Tolerance
) -> str | None:
    if got_NC is None or got_NC.shape != wanted_NC.shape:
        return f"logits are {None if got_NC is None else got_NC.shape}, recorded are {wanted_NC.shape}"
    error = float(np.abs(got_NC - wanted_NC).max())
    if not error <= tolerance.score_abs:
        return f"a logit is off by {error:.3g}, tolerance is {tolerance.score_abs:.3g}"
    return None
