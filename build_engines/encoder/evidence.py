"""The encoder gate's rules: from vectors, hits and times to evidence with a verdict each. Pure; measuring is ``verify``'s.

Suffixes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.encoder.recipe_parts import EncoderGatePart
from build_engines.proof.paired_right import PairedTexts
from build_engines.proof.records import SliceRow
from build_engines.proof.slices import judged, of_right, value_masks
from server.artifacts.manifest import Measurement

Floats = npt.NDArray[np.float32]
Verdict = Literal["pass", "fail", "undecidable"]
_RESAMPLES = 2000


def parity_evidence(engine_ND: Floats, wanted_ND: Floats, part: EncoderGatePart) -> Measurement:
    """The largest difference of a value to the reference's."""
    worst = float(np.abs(engine_ND - wanted_ND).max())
    who = "transformers" if part.reference == "transformers" else "itself, alone and in a batch"
    return Measurement(
        kind="parity",
        name=f"largest difference of the FP32 engine's vectors to {who}",
        value=worst,
        unit="",
        limit=part.max_reference_error,
        sense="at_most",
        verdict="pass" if worst <= part.max_reference_error else "fail",
        sample_size=len(engine_ND),
    )


def cosine_evidence(cosines_N: npt.NDArray[np.float64], part: EncoderGatePart) -> Measurement:
    """The mean cosine of candidate and parent; the whole interval must be above the limit."""
    generator = np.random.default_rng(part.seed)
    drawn = generator.integers(0, len(cosines_N), (_RESAMPLES, len(cosines_N)))
    low, high = (float(one) for one in np.quantile(cosines_N[drawn].mean(axis=1), [0.025, 0.975]))
    limit = part.min_cosine
    verdict: Verdict = "pass" if low >= limit else "fail" if high < limit else "undecidable"
    return Measurement(
        kind="parity",
        name="mean cosine with the FP32 parent",
        value=float(cosines_N.mean()),
        unit="",
        limit=limit,
        sense="at_least",
        verdict=verdict,
        sample_size=len(cosines_N),
        interval=(low, high),
        note=f"least {cosines_N.min():.4f}"
        + ("; more texts would decide it" if verdict == "undecidable" else ""),
    )


def recall_evidence(paired: PairedTexts, part: EncoderGatePart) -> Measurement:
    """How many questions lose the passage that they found first, less those that win it."""
    loss, limit = paired.loss_points / 100, part.max_recall_loss
    low, high = paired.loss_ci[0] / 100, paired.loss_ci[1] / 100
    note = _paired_note(paired, 100 * limit)
    return Measurement(
        kind="quality",
        name="loss of the passage found first (R@1) to the FP32 parent",
        value=loss,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict="pass" if loss <= limit else "fail",
        sample_size=paired.texts,
        interval=(low, high),
        note=note,
    )


def neighbours_evidence(same_N: npt.NDArray[np.bool_], part: EncoderGatePart) -> Measurement:
    """Without labelled questions: texts whose nearest other text is still the same."""
    share = float(same_N.mean())
    return Measurement(
        kind="quality",
        name="texts whose nearest text of the gate is not the FP32 parent's",
        value=1 - share,
        unit="ratio",
        limit=0.1,
        sense="at_most",
        verdict="pass" if 1 - share <= 0.1 else "fail",
        sample_size=len(same_N),
        note="no labelled questions were given (texts.retrieval)",
    )


def slice_rows(
    right: Mapping[str, Mapping[str, npt.NDArray[np.bool_]]],
    languages: Mapping[str, Sequence[str]],
    part: EncoderGatePart,
    names: tuple[str, str],
) -> tuple[SliceRow, ...]:
    """Each metric in each language, judged as one of many.

    Args:
        right: by metric, which examples each engine gets right.
        languages: by metric, of each example.
        part: the limits.
        names: of parent and candidate in ``right``; nothing is judged where there is no parent.
    """
    parent, candidate = names
    rows = []
    for metric, engines in right.items():
        if parent in engines and candidate in engines and engines[candidate].size:
            for name, mask in value_masks("language", languages[metric]).items():
                sides = engines[parent][mask], engines[candidate][mask]
                rows.append(of_right(name, metric, *sides, limit_points=part.max_slice_loss_points))
    return judged(rows)


def intent_evidence(paired: PairedTexts, part: EncoderGatePart) -> Measurement:
    """Accuracy of the intent head that is lost."""
    loss = paired.loss_points
    return Measurement(
        kind="quality",
        name="loss of intent accuracy to the FP32 parent, in points",
        value=loss,
        unit="points",
        limit=part.max_intent_loss_points,
        sense="at_most",
        verdict="pass" if loss <= part.max_intent_loss_points else "fail",
        sample_size=paired.texts,
        interval=paired.loss_ci,
        note=_paired_note(paired, part.max_intent_loss_points),
    )


def _paired_note(paired: PairedTexts, limit_points: float) -> str:
    note = (
        f"{paired.parent_accuracy:.4f} to {paired.candidate_accuracy:.4f}; lost {paired.only_parent}, won "
        f"{paired.only_candidate}, McNemar p {paired.p_value:.3g}"
    )
    if paired.decided(limit_points):
        return note
    needed = paired.texts_to_decide(limit_points)
    return f"{note}; the interval alone would need {'no number of' if needed is None else f'about {needed:,}'} texts"
