"""What another implementation makes of the same weights and texts: transformers, in float32, a text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from build_engines.errors import BuildError
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.sentence import SentenceForm, weights_folder


@torch.no_grad()
def reference_vectors(checkpoint: Path, form: SentenceForm, texts: Sequence[Ids]) -> npt.NDArray[np.float32]:
    """Vectors of texts, ``[N, D]``.

    Raises:
        BuildError: transformers cannot load the checkpoint.
    """
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(weights_folder(checkpoint), dtype=torch.float32).eval()
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(
            f'{checkpoint}: transformers cannot load it ({error}); set gate.reference = "none" to do without'
        ) from error
    found = []
    for ids in texts:
        states_TD = model(input_ids=torch.from_numpy(np.asarray(ids, np.int64))[None, :]).last_hidden_state[0]
        pooled_D = states_TD[0] if form.pooling == "cls" else states_TD.mean(dim=0)
        pooled_D = pooled_D[: form.dim]
        found.append(torch.nn.functional.normalize(pooled_D, dim=0) if form.normalize else pooled_D)
    return np.asarray(torch.stack(found).numpy(), np.float32)
