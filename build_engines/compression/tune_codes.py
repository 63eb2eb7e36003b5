"""Codebooks of an item table learn to rank as the table did; which code a row has stays as it is.

Objective: cross entropy of the coded table's softmax over the catalogue with the table's own, on queries of the network
(ranking distillation, temperature 1). Gradients of a piece add up over all rows that have its code; what rows are multiplied by
learns too. The rows keep their length, so cosine scores stay cosine scores.

Suffixes: B queries, N rows, M codes a row, K codes to choose from, W width of a piece, D width.

Source:
    Petrov and Macdonald, "RecJPQ: Training Large-Catalogue Sequential Recommenders", 2024 (codebooks trained with the task,
    codes fixed); Tang and Wang, "Ranking Distillation", 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from build_engines.compression.codebooks import Floats, ProductCodes

BATCH = 128
RATE = 0.02  # of the spread of the codebook, a step
HELD_OUT = 0.1


def tune_codes(
    codes: ProductCodes,
    table_ND: Floats,
    queries_BD: Floats,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ProductCodes, float, float]:
    """The codes with a codebook that was trained, if it is better on queries that it was not trained on.

    Args:
        codes: of the table.
        table_ND: what they stand for; row 0 is padding.
        queries_BD: what it is multiplied by.
        steps: of training, of ``BATCH`` queries.
        seed: of the queries' order.
        progress: called with steps done and in all.

    Returns:
        The codes, and the held-out cross entropy above the table's own entropy (nats), before and after.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(queries_BD), generator=generator)
    queries = torch.from_numpy(queries_BD)[order]
    held = max(1, round(len(queries) * HELD_OUT))
    judged, taught = queries[:held], queries[held:]
    table = torch.from_numpy(table_ND)[1:]
    found = torch.from_numpy(codes.codes_NM.astype(np.int64))[1:]
    book = torch.nn.Parameter(torch.from_numpy(codes.codebook_MKW.copy()))
    dim = table.shape[1]
    turn = torch.nn.Parameter(
        torch.eye(dim) if codes.turn_DD is None else torch.from_numpy(codes.turn_DD.copy())
    )
    places = torch.arange(len(book))

    def rows() -> torch.Tensor:
        left = book[places, found].flatten(1) @ turn
        return left if codes.length is None else functional.normalize(left, dim=1) * codes.length

    def gap(some: torch.Tensor) -> torch.Tensor:
        wanted = functional.log_softmax(some @ table.T, dim=1)
        got = functional.log_softmax(some @ rows().T, dim=1)
        return functional.kl_div(got, wanted, reduction="batchmean", log_target=True)

    def judge() -> float:
        with torch.no_grad():
            return float(gap(judged))

    before = judge()
    best, kept = before, (book.detach().clone(), turn.detach().clone())
    optimizer = torch.optim.Adam(
        [
            {"params": [book], "lr": RATE * float(book.detach().std())},
            {"params": [turn], "lr": RATE * float(turn.detach().std())},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for step in range(steps if len(taught) else 0):
        some = taught[torch.randint(len(taught), (BATCH,), generator=generator)]
        optimizer.zero_grad(set_to_none=True)
        gap(some).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            now = judge()
            if now < best:
                best, kept = now, (book.detach().clone(), turn.detach().clone())
    tuned = ProductCodes(
        codes_NM=codes.codes_NM,
        codebook_MKW=kept[0].numpy(),
        turn_DD=kept[1].numpy(),
        length=codes.length,
    )
    return (tuned if best < before else codes), before, best


def whole_histories(
    rows_E: npt.NDArray[np.integer], offsets_U1: npt.NDArray[np.integer], count: int, seed: int
) -> list[npt.NDArray[np.int32]]:
    """Histories to their end, some of all users'.

    To their end and not to a place before it: what comes next there is what nothing was learnt from, and queries are spread as
    they are in use. (On Amazon Beauty, weighing errors by queries inside histories lost 1.4 % of NDCG, by those at their ends 0.0 %.)

    Args:
        rows_E: item rows of all, one behind the other.
        offsets_U1: where each begins, and the end.
        count: most to take.
        seed: of the choice.
    """
    users = np.flatnonzero(np.diff(offsets_U1) > 0)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(users, min(count, users.size), replace=False))
    return [np.asarray(rows_E[offsets_U1[user] : offsets_U1[user + 1]], np.int32) for user in chosen]
