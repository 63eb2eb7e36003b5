"""Which metrics labelled rows can be judged by; apart from their formulas, which a recipe does not need."""

from __future__ import annotations

HIGHER_IS_BETTER = {
    "auc": True,
    "accuracy": True,
    "ndcg": True,
    "log_loss": False,
    "mse": False,
    "mae": False,
}
MOST_RANKS = 1000


def metric_cutoff(metric: str) -> int | None:
    """Ranks that a metric looks at; None: it knows no ranks.

    Raises:
        ValueError: there is no such metric; says which there are.
    """
    name, at, cutoff = metric.partition("@")
    ranks = cutoff.isascii() and cutoff.isdecimal() and 1 <= int(cutoff) <= MOST_RANKS
    if name not in HIGHER_IS_BETTER or (name == "ndcg") != bool(at) or (bool(at) and not ranks):
        known = ", ".join(sorted(set(HIGHER_IS_BETTER) - {"ndcg"}))
        raise ValueError(f"metric is {metric!r}; use one of {known}, or ndcg@10")
    return int(cutoff) if at else None


def higher_is_better(metric: str) -> bool:
    """Whether more of it is better."""
    return HIGHER_IS_BETTER[metric.partition("@")[0]]
