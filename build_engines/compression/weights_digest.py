"""Which weights a network has, as one digest."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn


def weights_digest(network: nn.Module) -> str:
    """Hex SHA-256 of names, shapes and values of all parameters, and of what is trained."""
    digest = hashlib.sha256()
    for name, one in network.named_parameters():
        digest.update(f"{name}{tuple(one.shape)}{one.dtype}".encode())
        flat: Any = one.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()
