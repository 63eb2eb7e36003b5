"""Compare two versions: open both as the server does, ask both the same, judge, and say it in a page.

What is a regression is decided, not guessed: a loss whose whole interval is above the limit, a slice that the corrected test
refuses, a speed-up whose whole interval is below what was allowed. What is not decided is said to be undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from build_engines.compare.limits import CompareLimits
from build_engines.compare.records import Comparison, MetricRow, Verdict
from build_engines.compare.versions import examples_of, side_of
from build_engines.errors import BuildError
from build_engines.hardware import describe_hardware
from build_engines.progress import Progress, Silent
from build_engines.proof.examples import Examples
from build_engines.proof.footprint import ask_of_version, measured
from build_engines.proof.records import Footprint, GroupRow, SliceRow
from build_engines.records import SpeedRow
from server.artifacts.repository import OpenedVersion

Found = tuple[tuple[MetricRow, ...], tuple[SliceRow, ...], tuple[GroupRow, ...], tuple[SpeedRow, ...]]
Family = Callable[[OpenedVersion, OpenedVersion, Examples, OpenedVersion, CompareLimits], Found]


def compare_versions(
    a: OpenedVersion, b: OpenedVersion, limits: CompareLimits, progress: Progress | None = None
) -> Comparison:
    """Everything about B beside A.

    Args:
        a: what was.
        b: what is to be.
        limits: how to judge.
        progress: what the person sees.

    Raises:
        BuildError: they cannot be compared; says why.
        ArtifactError: one of them cannot be loaded.
    """
    say = (progress or Silent()).say
    if a.manifest.task != b.manifest.task:
        raise BuildError(f"A is for {a.manifest.task}, B for {b.manifest.task}; compare two of one task")
    task = a.manifest.task
    if task not in _FAMILIES:
        raise BuildError(f"versions for {task} are not compared yet; there are {', '.join(_FAMILIES)}")
    examples, source, same = examples_of(a, b)
    side_a, side_b = side_of(a), side_of(b)
    say(f"A: {side_a.name}; B: {side_b.name}; judged on the examples of {side_of(source).name}")
    metrics, slices, groups, speed = _FAMILIES[task](a, b, examples, source, limits)
    footprint = _footprint(a, b, limits, say)
    verdict, reasons = _judged(metrics, slices, speed, limits)
    notes = (
        []
        if same
        else ["The two were built on different examples; both were judged on those of the later one here."]
    )
    return Comparison(
        task=task,
        a=side_a,
        b=side_b,
        verdict=verdict,
        reasons=reasons,
        examples=metrics[0].n if metrics else 0,
        examples_of=side_of(source).name,
        same_examples=same,
        metrics=metrics,
        slices=slices,
        groups=groups,
        speed=speed,
        footprint=footprint,
        hardware=describe_hardware(),
        seed=limits.seed,
        notes=tuple(notes),
    )


def compare_quality(a: OpenedVersion, b: OpenedVersion, limits: CompareLimits) -> MetricRow:
    """The figure that counts, alone; nothing is timed where ``limits.rounds`` is 0.

    Raises:
        BuildError: they cannot be compared, or nothing can be measured; says why.
    """
    if a.manifest.task != b.manifest.task or a.manifest.task not in _FAMILIES:
        raise BuildError(f"versions for {a.manifest.task} and {b.manifest.task} are not compared")
    examples, source, _ = examples_of(a, b)
    metrics, _, _, _ = _FAMILIES[a.manifest.task](a, b, examples, source, limits)
    if not metrics or metrics[0].limit is None:
        raise BuildError(
            f"{a.folder}: its gate has no examples with right answers: quality cannot be measured"
        )
    return metrics[0]


def _recommenders(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, source: OpenedVersion, limits: CompareLimits
) -> Found:
    from build_engines.compare.recommenders import compare_recommenders

    return compare_recommenders(a, b, examples, source, limits)


def _encoders(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, source: OpenedVersion, limits: CompareLimits
) -> Found:
    from build_engines.compare.encoders import compare_encoders

    metrics, slices, speed = compare_encoders(a, b, examples, limits)
    return metrics, slices, (), speed


def _texts(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, source: OpenedVersion, limits: CompareLimits
) -> Found:
    from build_engines.compare.texts import compare_texts

    metrics, slices, speed = compare_texts(a, b, examples, limits)
    return metrics, slices, (), speed


# Each is imported when it is asked: a recommender must not wait for what texts need.
_FAMILIES: dict[str, Family] = {
    "recommendation": _recommenders,
    "sentence_encoding": _encoders,
    "text_generation": _texts,
}


def _footprint(
    a: OpenedVersion, b: OpenedVersion, limits: CompareLimits, say: Callable[[str], None]
) -> dict[str, Footprint]:
    found = {}
    for name, opened in (("A", a), ("B", b)) if limits.footprint else ():
        say(f"  {name}: memory, latency and CPU in a process of its own")
        found[name] = measured(
            ask_of_version(
                opened.folder,
                opened.manifest,
                batch_sizes=limits.batch_sizes,
                rate_per_s=limits.rate_per_s,
                seed=limits.seed,
            )
        )
    return found


def _judged(
    metrics: Sequence[MetricRow], slices: Sequence[SliceRow], speed: Sequence[SpeedRow], limits: CompareLimits
) -> tuple[Verdict, tuple[str, ...]]:
    worse: list[str] = []
    open_: list[str] = []
    for one in metrics:
        if one.limit is None or one.interval is None or one.loss is None:
            continue
        lost = f"{one.loss:+.2%}" if one.unit == "ratio" else f"{one.loss:+.2f} points"
        if one.verdict == "fail":
            worse.append(f"{one.name} loses {lost}, more than was allowed")
        elif one.verdict == "undecidable":
            needed = "no number of" if one.n_to_decide is None else f"about {one.n_to_decide:,}"
            open_.append(f"{one.name}: {lost} is not decided by {one.n:,} examples; {needed} would decide it")
    worse += [
        f"slice {one.name}: the loss is decidedly above its limit" for one in slices if one.verdict == "fail"
    ]
    for row in speed:
        if row.interval[1] < limits.min_speedup:
            worse.append(f"batch {row.batch_size}: {row.speedup:.2f} times as fast, slower than was allowed")
        elif row.interval[0] < limits.min_speedup:
            open_.append(
                f"batch {row.batch_size}: whether it is slower is not decided ({row.speedup:.2f} times)"
            )
    if worse:
        return "regression", tuple(worse + open_)
    if open_ or not any(one.limit is not None for one in metrics):
        return "undecided", tuple(open_ or ["nothing was measured that could be judged"])
    return "holds", ("every figure that has a limit is decidedly within it",)
