"""What a repository holds, as a table for people: models, versions, which one serves, and the figures one asks for."""

from __future__ import annotations

import time
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.manifest import Manifest
from server.artifacts.repository import current_version, model_names, read_manifest, versions

_HEAD = (
    "model",
    "version",
    "published",
    "precision",
    "items",
    "MB",
    "recall@10",
    "ndcg@10",
    "perplexity",
    "cosine",
    "targets",
    "",
)


def listing(repository: Path) -> str:
    """The table; a version that cannot be read is listed with what is wrong with it."""
    rows = [row for model in model_names(repository) for row in _model_rows(repository, model)]
    if not rows:
        return f"{repository}: nothing is published there; build with `python -m build_engines run RECIPE`"
    widths = [max(len(row[place]) for row in (_HEAD, *rows)) for place in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEAD, *rows)
    )


def _model_rows(repository: Path, model: str) -> list[tuple[str, ...]]:
    try:
        current = current_version(repository, model)
    except ArtifactError:
        current = ""
    rows = []
    for version in versions(repository, model):
        mark = "<- serves" if version == current else ""
        try:
            rows.append(_row(read_manifest(repository / model / version), version, mark))
        except ArtifactError as error:
            rows.append((model, version, *[""] * (len(_HEAD) - 3), f"{mark} {error}".strip()))
    return rows


def _row(manifest: Manifest, version: str, mark: str) -> tuple[str, ...]:
    figures = manifest.figures
    targets = sorted(
        {f"{one.kind}:{one.capability}" if one.capability else one.kind for one in manifest.targets}
    )
    remarks = " ".join(part for part in (mark, *manifest.flags) if part)
    return (
        manifest.model,
        version,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest.created_unix_s)),
        manifest.targets[0].precision,
        f"{figures['items']:.0f}" if "items" in figures else "",
        f"{sum(entry.size_bytes for entry in manifest.files) / 1e6:.1f}",
        f"{figures['recall@10']:.4f}" if "recall@10" in figures else "",
        f"{figures['ndcg@10']:.4f}" if "ndcg@10" in figures else "",
        f"{figures['perplexity']:.3f}" if "perplexity" in figures else "",
        f"{figures['cosine_fp32']:.4f}" if "cosine_fp32" in figures else "",
        ",".join(targets),
        remarks,
    )
