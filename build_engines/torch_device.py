"""Whether the device that a recipe trains on is there, asked before anything is loaded; torch is loaded only if it is no CPU."""

from __future__ import annotations

from build_engines.errors import RecipeError


def check_device(place: str, device: str) -> None:
    """Refuse a device that this machine does not have.

    Args:
        place: how to name the key to a person.
        device: as the recipe says: "cpu", "cuda" or "cuda:1".

    Raises:
        RecipeError: torch does not know it, or it is not there.
    """
    if device == "cpu":
        return
    kind, _, index = device.partition(":")
    if kind != "cuda" or (":" in device and not (index.isascii() and index.isdecimal() and len(index) < 4)):
        raise RecipeError(f'{place} is {device!r}; use "cpu", "cuda" or "cuda:N"')
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise RecipeError(f'{place} is {device!r}, and torch finds no CUDA device on this machine; use "cpu"')
    if index and int(index) >= count:
        raise RecipeError(
            f'{place} is {device!r}, this machine has {count} CUDA devices; use "cuda:0" to "cuda:{count - 1}"'
        )
