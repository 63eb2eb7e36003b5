"""Whether it pays to multiply in bfloat16 here."""

from __future__ import annotations

import torch


def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; without that it is slower than float32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private in torch 2.13
    return bool(probe()) if probe is not None else False
