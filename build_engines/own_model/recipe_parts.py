"""The sections of a recipe for somebody's own model; each is what one stage gets, and part of its cache key.

Ranges stand in ``recipe_limits``. Units: as the names say; shares are 0..1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_engines.own_model.metric_names import metric_cutoff
from build_engines.recipe_parts import CompilePart

OwnPrecision = Literal["fp32", "int8", "int8_dynamic"]
OnRefused = Literal["stop", "publish_parent"]
Scalar = str | int | float | bool
_PYTHON = re.compile(r"python:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePart:
    """Where the model comes from: ``source``, [files] and [options].

    Attributes:
        source: "python:package.module:factory", or "onnx:file.onnx".
        folder: of the recipe: where a module is looked for first, and what paths are relative to.
        files: by the name of the factory's parameter: what it reads. A file that it reads without being named here can change
            without a new build.
        options: further parameters of the factory.
    """

    source: str
    folder: Path
    files: dict[str, str] = field(default_factory=dict)
    options: dict[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check its form."""
        kind, _, name = self.source.partition(":")
        if kind not in ("python", "onnx") or not name:
            raise ValueError(
                f'source is {self.source!r}; write "python:package.module:factory" or "onnx:file.onnx"'
            )
        if kind == "python" and not _PYTHON.fullmatch(self.source):
            raise ValueError(f'source is {self.source!r}; write "python:package.module:factory"')
        if kind == "onnx" and (self.files or self.options):
            raise ValueError("files and options are for a factory; an ONNX file takes none, leave them out")

    def path(self, name: str) -> Path:
        """A file as the recipe means it."""
        path = Path(name).expanduser()
        return path if path.is_absolute() else self.folder / path

    @property
    def onnx_file(self) -> Path | None:
        """The ONNX file, where the source is one."""
        kind, _, name = self.source.partition(":")
        return self.path(name) if kind == "onnx" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDataPart:
    """Rows for calibration and for the gate ([data]); no row may be in both.

    Attributes:
        gate: ``.npz`` with an array for each input, one after the other along the batch, and the labels if there are any.
        calibration: the same for calibration, without labels; needed for INT8 with static ranges.
        labels: name of the array of labels in ``gate``.
        groups: name of an integer array in ``gate``: which rows are ranked together, for "ndcg@10".
    """

    gate: Path
    calibration: Path | None = None
    labels: str | None = None
    groups: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuantizePart:
    """How the graph is compressed ([quantize]).

    Attributes:
        precision: "int8": explicit Q/DQ with ranges from calibration; "int8_dynamic": ranges of each run (ONNX Runtime only);
            "fp32": as it came.
        method: how ranges are read from calibration values.
        percentile: of absolute values that must fit, for "percentile".
        max_rows: rows of calibration that are used at most.
        tables: lookup tables too, with a scale for each row.
        least_weights: smaller matrices stay as they are: rounding their input costs more than it saves.
        exclude: nodes that stay as they are, by name.
        seed: of the choice of rows.
    """

    precision: OwnPrecision = "fp32"
    method: Literal["minmax", "percentile"] = "percentile"
    percentile: float = 99.99
    max_rows: int = 4096
    tables: bool = True
    least_weights: int = 1024
    exclude: tuple[str, ...] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePart:
    """What the engine must take ([serve]).

    Attributes:
        max_batch: most rows of one run.
        dims: most of each other symbol of the inputs.
    """

    max_batch: int = 64
    dims: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the symbols."""
        for symbol, most in self.dims.items():
            if not _SYMBOL.fullmatch(symbol) or symbol == "B" or symbol == "batch":
                raise ValueError(f"dims has {symbol!r}; name a symbol of an input, other than B")
            if not 1 <= most <= 1 << 24:
                raise ValueError(f"dims.{symbol} is {most}; use 1 to {1 << 24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnGatePart:
    """What the finished engine must prove ([gate]).

    Attributes:
        metric: of the labelled rows: "auc", "log_loss", "accuracy", "mse", "mae", "ndcg@10".
        output: the output that is judged; None: the first.
        logits: whether that output is a logit, for "log_loss" of two classes.
        max_metric_loss: of the metric against the parent, relative; the whole interval must be below it.
        max_source_error: largest difference to the source, over the size of the source's values.
        max_error: root mean square difference of the candidate to the parent, over that of the parent's values.
        max_disagreement: without labels: rows whose best class, or whose place among the others, is not the parent's.
        batch_sizes: whose speed is measured.
        min_speedup: at each of them.
        max_size_ratio: size of the candidate's engine over its parent's.
        rounds: of timing.
        seed: of resampling.
        on_refused: what happens then.
    """

    metric: str | None = None
    output: str | None = None
    logits: bool = False
    max_metric_loss: float = 0.01
    max_source_error: float = 1e-4
    max_error: float = 0.05
    max_disagreement: float = 0.02
    batch_sizes: tuple[int, ...] = (1, 32)
    min_speedup: float = 1.0
    max_size_ratio: float = 0.9
    rounds: int = 40
    seed: int = 0
    on_refused: OnRefused = "stop"

    def __post_init__(self) -> None:
        """Check the metric's name."""
        if self.metric is not None:
            metric_cutoff(self.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLoadPart:
    """For ``own-load``."""

    source: SourcePart
    data: OwnDataPart
    max_batch: int
    dims: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCompilePart:
    """For ``own-compile``."""

    compile: CompilePart
    serve: ServePart


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVerifyPart:
    """For ``own-verify``: limits, names of labels, and the model's name for messages."""

    gate: OwnGatePart
    labels: str | None
    groups: str | None
    serve: ServePart
    model: str
