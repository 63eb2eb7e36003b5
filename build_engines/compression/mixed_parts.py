"""What a recipe may say of mixed precision and of FP8; the same for all families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FP8_GPUS = ("sm89", "sm90", "sm100", "sm120", "sm121")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPart:
    """How much quality may be spent, and how well it is measured ([package.mixed]).

    Attributes:
        budget: sum of the products' own losses, in the family's unit: 1 - cosine for encoders, nats a token for decoders.
        rounds: of timing each graph.
        texts: calibration texts that losses are measured on.
    """

    budget: float = 0.002
    rounds: int = 7
    texts: int = 32


def check_gpus_of_fp8(variant: str, wanted: Sequence[tuple[str, str | None]]) -> None:
    """See that FP8 is asked for where it can be computed.

    Raises:
        ValueError: it is asked for a CPU alone, or for a GPU without it; says what to do.
    """
    if variant != "fp8":
        return
    plans = [(kind, gpu) for kind, gpu in wanted if kind != "onnxruntime"]
    if not plans:
        raise ValueError(
            'plan_variant is "fp8", and every target runs on the CPU, which multiplies no FP8; add a GPU that does, such as '
            f'"tensorrt_rtx:{FP8_GPUS[0]}", or leave plan_variant out'
        )
    for kind, gpu in plans:
        if gpu is not None and gpu.lower() not in FP8_GPUS:
            raise ValueError(
                f'plan_variant is "fp8", and target {kind}:{gpu} has no FP8; there are {", ".join(FP8_GPUS)}'
            )
