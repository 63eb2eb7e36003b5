"""Golden texts: what a version wrote when it was gated, and whether it would still write it.

Replay forces the recorded tokens and looks at the logits before each. The recorded token must be the greedy choice up to
the manifest's tolerance, and its log-probability must be what it was up to the same tolerance. That holds every step
against the record even where two tokens tie, on a machine whose kernels round otherwise: a replay that compared written
texts would part at the first tie and say nothing about the rest.

The file is ``golden.npz`` (``artifacts.golden``), with
``in.prompt_ids`` int64 ``[N, P]``, padded on the right with -1; prompts should be longer than ``max_chunk``, some of them;
``out.token_ids`` int64 ``[N, G]``, greedy tokens of the packaged engine, padded with -1 after an end of text;
``out.own_token_ids`` and ``out.own_logprobs``, where the engine has a light graph: the same with answers computed in its own;
``out.logprobs`` float32 ``[N, G]``, natural log-probabilities of these, 0 where padded.

Suffixes: ``_P`` tokens of a prompt, ``_G`` of an answer, ``_V`` of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import Golden
from server.artifacts.manifest import Tolerance
from server.engines.causal import CausalCall, CausalEngine

PROMPT_IDS, TOKEN_IDS, LOGPROBS = "prompt_ids", "token_ids", "logprobs"
PADDING = -1
# Of each way that answers are computed: is it in the light graph, and what the record of it is called.
_OUTPUTS = {True: (TOKEN_IDS, LOGPROBS), False: (f"own_{TOKEN_IDS}", f"own_{LOGPROBS}")}

Choose = Callable[[int, npt.NDArray[np.float32]], int | None]


def record_golden(
    engine: CausalEngine, prompts: Sequence[Sequence[int]], *, tokens: int, eos_ids: Collection[int] = ()
) -> Golden:
    """Write greedily on from each prompt, for ``golden.npz``; the builder's last stage calls this on the packaged engine.

    Args:
        engine: loaded with nothing under way; first slots of its pools are used.
        prompts: token ids; each not empty, and with ``tokens`` within the context.
        tokens: how many to write at most.
        eos_ids: tokens that end a text; the end is recorded as well.

    Raises:
        ValueError: a prompt is empty or does not fit.
        RuntimeError: the engine failed.
    """
    outputs: dict[str, npt.NDArray[Any]] = {}
    for light, names in _ways(engine).items():
        ids_NG, logprobs_NG = _record(engine, prompts, tokens, eos_ids, light)
        outputs.update(zip(names, (ids_NG, logprobs_NG), strict=True))
    return Golden(inputs={PROMPT_IDS: _padded(prompts, PADDING, np.int64)}, outputs=outputs)


def _ways(engine: CausalEngine) -> dict[bool, tuple[str, str]]:
    return _OUTPUTS if engine.limits.light else {False: (TOKEN_IDS, LOGPROBS)}


def _record(
    engine: CausalEngine,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    eos_ids: Collection[int],
    light: bool,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    rows_ids: list[list[int]] = []
    rows_logprobs: list[list[float]] = []
    for prompt in prompts:
        chosen: list[int] = []
        told: list[float] = []

        def greedy(
            step: int, logits_V: npt.NDArray[np.float32], chosen: list[int] = chosen, told: list[float] = told
        ) -> int | None:
            token = int(logits_V.argmax())
            chosen.append(token)
            told.append(_logprob(logits_V, token))
            return None if token in eos_ids or len(chosen) == tokens else token

        _walk(engine, prompt, tokens, greedy, light)
        rows_ids.append(chosen)
        rows_logprobs.append(told)
    return _padded(rows_ids, PADDING, np.int64), _padded(rows_logprobs, 0.0, np.float32)


def replay_golden(
    engine: CausalEngine, golden: Golden, tolerance: Tolerance, where: object, *, steps: int | None = None
) -> None:
    """Hold an engine against what is recorded.

    Args:
        engine: as for ``record_golden``.
        golden: of the version.
        tolerance: of the manifest; ``score_abs`` and ``score_rel`` are of log-probabilities, ``min_overlap`` is the share
            of recorded tokens that must hold.
        where: the version, for messages.
        steps: answer tokens to look at in all, the first ones of each text; None: all of them. Of two graphs, half in each.

    Raises:
        ArtifactError: the record is not one of texts, or the engine would write something else; says where and by how much.
    """
    ways = _ways(engine)
    for light, names in ways.items():
        _replay(engine, golden, tolerance, where, None if steps is None else steps // len(ways), names, light)


def _replay(
    engine: CausalEngine,
    golden: Golden,
    tolerance: Tolerance,
    where: object,
    steps: int | None,
    names: tuple[str, str],
    light: bool,
) -> None:
    try:
        prompts_NP = golden.inputs[PROMPT_IDS]
        tokens_NG, logprobs_NG = (golden.outputs[name] for name in names)
        shapes = (prompts_NP.ndim, tokens_NG.ndim, tokens_NG.shape == logprobs_NG.shape)
        if shapes != (2, 2, True) or len(prompts_NP) != len(tokens_NG) or not tokens_NG.size:
            raise KeyError("shapes")
    except KeyError as error:
        raise ArtifactError(f"{where}: golden.npz holds no golden texts ({error}); build it again") from error
    held = looked = 0
    most = tokens_NG.shape[1] if steps is None else max(1, steps // len(tokens_NG))
    first = ""
    for row, (prompt_P, tokens_G, logprobs_G) in enumerate(
        zip(prompts_NP, tokens_NG, logprobs_NG, strict=True)
    ):
        tokens = [int(token) for token in tokens_G if token >= 0][:most]
        prompt = [int(token) for token in prompt_P if token >= 0]
        if len(prompt) + len(tokens) > engine.limits.max_context:
            continue  # this server was told to serve a shorter context than the version has
        errors: list[str] = []

        def forced(
            step: int,
            logits_V: npt.NDArray[np.float32],
            tokens: list[int] = tokens,
            wanted_G: npt.NDArray[np.float32] = logprobs_G,
            errors: list[str] = errors,
        ) -> int | None:
            token = tokens[step]
            if not 0 <= token < len(logits_V):
                errors.append(
                    f"token {token} at step {step + 1} is not among the {len(logits_V)} of the engine"
                )
                return None
            problem = _differs(logits_V, token, float(wanted_G[step]), tolerance)
            if problem:
                errors.append(f"step {step + 1}: {problem}")
            return token if step + 1 < len(tokens) else None

        try:
            _walk(engine, prompt, len(tokens), forced, light)
        except ValueError as error:
            raise ArtifactError(f"{where}: golden text {row + 1} does not fit the engine: {error}") from error
        looked += len(tokens)
        held += len(tokens) - len(errors)
        if errors and not first:
            first = f"text {row + 1}, {errors[0]}"
    if looked == 0 or held < tolerance.min_overlap * looked:
        raise ArtifactError(
            f"{where}: golden replay differs on {engine.kind}: {held} of {looked} tokens hold, must be "
            f"{tolerance.min_overlap:.3g} of them ({first or 'none fits the context'}); this version is not served, build it again"
        )


def _differs(
    logits_V: npt.NDArray[np.float32], token: int, wanted: float, tolerance: Tolerance
) -> str | None:
    allowed = tolerance.score_abs + tolerance.score_rel * abs(wanted)
    if not np.isfinite(logits_V).all():
        return "the logits hold NaN or infinity"
    best = int(logits_V.argmax())
    behind = float(logits_V[best] - logits_V[token])
    if not behind <= 2 * allowed:  # both may have moved, towards each other
        return f"token {best} stands {behind:.3g} before the recorded {token}, tolerance is {2 * allowed:.3g}"
    error = abs(_logprob(logits_V, token) - wanted)
    if not error <= allowed:
        return f"log-probability of token {token} differs by {error:.3g}, tolerance is {allowed:.3g}"
    return None


def _walk(engine: CausalEngine, prompt: Sequence[int], tokens: int, choose: Choose, light: bool) -> None:
    limits = engine.limits
    if not prompt or len(prompt) + tokens > limits.max_context:
        raise ValueError(
            f"{len(prompt)} prompt tokens and {tokens} more, the context is {limits.max_context}"
        )
    # The smallest that holds it: a call costs by its capacity, and memory that nobody needs stays untouched.
    capacity = min(one for one in limits.pools if one >= len(prompt) + tokens)
    if not all(0 <= token < limits.vocab_size for token in prompt):
        raise ValueError(f"a prompt token is not in 0 .. {limits.vocab_size - 1}")
    filled = 0
    logits_V = np.zeros(0, np.float32)
    while filled < len(prompt):
        chunk = prompt[filled : filled + limits.max_chunk]
        logits_V = _run(engine, capacity, chunk, filled)
        filled += len(chunk)
    for step in range(tokens):
        token = choose(step, logits_V)
        if token is None:
            return
        logits_V = _run(engine, capacity, (token,), filled, light)
        filled += 1


def _run(
    engine: CausalEngine, capacity: int, ids: Sequence[int], filled: int, light: bool = False
) -> npt.NDArray[np.float32]:
    ids_BT = np.asarray([ids], np.int64)
    call = CausalCall(
        capacity, 0, ids_BT, np.asarray([filled], np.int64), np.asarray([len(ids)], np.int64), light
    )
    logits_BV = engine.run(call)
    return logits_BV.reshape(-1)


def _logprob(logits_V: npt.NDArray[np.float32], token: int) -> float:
    shifted_V = logits_V.astype(np.float64) - float(logits_V.max())
    return float(shifted_V[token] - np.log(np.exp(shifted_V).sum()))


def _padded(
    rows: Sequence[Sequence[float]], padding: float, dtype: npt.DTypeLike
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    out = np.full((len(rows), max(map(len, rows), default=0)), padding, dtype)
    for row, values in enumerate(rows):
        out[row, : len(values)] = values
    return out
