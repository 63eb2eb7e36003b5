"""The sections of a recipe that are the builder's own; the others are the config classes of data and models.

A section is what one stage gets, and part of its cache key: a knob in the wrong section makes a shop train
again when it moves. ``NetworkPart`` and ``TrainPart`` repeat the fields of ``SasRecConfig`` and
``TrainingConfig`` (a test holds them equal), because those live beside torch, and listing versions must not
wait for torch.

Ranges stand in ``recipe_limits``. Units: as the names say; shares are 0..1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_engines.compression.calibrator_names import Calibrator
from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.items import OnUnlisted
from build_engines.data.log_rows import LogFormat
from build_engines.data.sample_shop import SampleShopSize
from build_engines.evaluation.metrics import CUTOFFS
from build_engines.proof.fairness_part import FairnessPart
from server.artifacts.errors import ArtifactError
from server.artifacts.schema import check_model_name

JUDGED_BY = ("ndcg", "recall", "mrr")
TARGET_KINDS = ("onnxruntime", "tensorrt_rtx", "tensorrt")
_CAPABILITY = re.compile(r"sm[0-9]{2,3}[a-z]?")
Precision = Literal["fp32", "int8", "mixed"]
OnRefused = Literal["stop", "publish_parent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """What the model is called ([model]).

    Attributes:
        name: its folder in the repository.
        description: for people.
    """

    name: str
    description: str = ""

    def __post_init__(self) -> None:
        """Check the name."""
        try:
            check_model_name(self.name)
        except ArtifactError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPart:
    """A log of the shop's own, or the sample shop ([data]).

    Attributes:
        log: the log (CSV, Parquet, or a user a line).
        items: the item file; None: ids only.
        sample_shop: generate this shop instead.
        format: how the log is written ([data.format]).
        rows: what happens to rows that cannot be used ([data.rows]).
        item_columns: the shop's names for our item columns.
        on_unlisted: clicked items without a record: keep or refuse.
        max_unlisted_share: of clicks, above which log and items do not belong together.
    """

    log: Path | None = None
    items: Path | None = None
    sample_shop: SampleShopSize | None = None
    format: LogFormat = field(default_factory=LogFormat)
    rows: BadRowPolicy = field(default_factory=BadRowPolicy)
    item_columns: dict[str, str] = field(default_factory=dict)
    on_unlisted: OnUnlisted = "keep"
    max_unlisted_share: float = 0.5

    def __post_init__(self) -> None:
        """Check that there is one source."""
        if (self.log is None) == (self.sample_shop is None):
            raise ValueError("give either log (a file) or sample_shop (a section), not both and not neither")
        if self.items is not None and self.log is None:
            raise ValueError("items goes with log; the sample shop brings its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPart:
    """Sizes of the network ([network]): ``SasRecConfig`` without the catalogue's size.

    Attributes:
        dim: width, a multiple of ``heads`` unless ``head_dim`` is given.
        blocks: transformer blocks.
        heads: attention heads.
        length: newest items of a history that the model sees.
        dropout: in training.
        tau: temperature of the cosine.
        ffn_multiplier: inner width over ``dim``.
        head_dim: width of a head; None: ``dim / heads``.
        inner: inner width; None: ``ffn_multiplier * dim``.
        item_features: sum brand, category, price band and attributes into the item vectors.
    """

    dim: int = 128
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.5
    tau: float = 0.07
    ffn_multiplier: float = 4.0
    head_dim: int | None = None
    inner: int | None = None
    item_features: bool = True

    def __post_init__(self) -> None:
        """Check what sizes say of each other."""
        if self.head_dim is None and self.dim % self.heads:
            raise ValueError(f"heads is {self.heads} and dim is {self.dim}; dim must be a multiple of heads")
        if self.ffn_multiplier * self.dim < 1:
            raise ValueError(
                f"ffn_multiplier is {self.ffn_multiplier:g} and dim is {self.dim}; their product must be 1 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPart:
    """How it is trained ([train]): ``TrainingConfig``."""

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    future: int = 3
    future_decay: float = 0.5
    patience: int = 3
    validate_every: int = 1
    seed: int = 0
    bfloat16: bool | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class PqPart:
    """The item table as product codes ([quantize.pq]; only with ``table = "pq"``).

    Attributes:
        subspaces: codes of a row, and so its bytes; a divisor of network.dim.
        codes: to choose from, in each subspace.
        rotate: learn a rotation before the rows are cut into pieces (OPQ).
        rounds: of k-means.
        tune_steps: of training the codebooks to rank as the table does, codes fixed (0: none).
        queries: of the network, on histories that it was trained on, by which an error is weighed and codebooks are tuned.
        scored: "decoded": unpacked to INT8 when a server loads it, as fast as an INT8 table. "lookup": scores are sums of
            looked-up products; the least memory, and slower on a CPU.
    """

    subspaces: int = 32
    codes: int = 256
    rotate: bool = True
    rounds: int = 12
    tune_steps: int = 0
    queries: int = 8192
    scored: Literal["decoded", "lookup"] = "decoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizePart:
    """How the candidate is compressed ([quantize]).

    Attributes:
        precision: "fp32" publishes the parent itself. "mixed": of the linears those stay FP32 that cost more quality than
            they bring speed (``mixed_budget``).
        linears: also the matrices inside the blocks, not only the item table.
        table: the item table in INT8 with a scale a row, or as product codes.
        pq: of the product codes.
        neighbours: keep this many of each item's transitions at most, ids in 16 bits and weights in 8 (0: as they are).
        calibrator: how the range of activations is found from what was seen, see ``compression.calibrators``.
        percentile: of absolute values that "percentile" keeps (50..100).
        mixed_budget: how far "mixed" may move the best scores, over how far they are apart.
        samples: calibration histories (>= 1); never more than the split sets apart.
        seed: of their choice.
    """

    precision: Precision = "int8"
    linears: bool = False
    table: Literal["int8", "pq"] = "int8"
    pq: PqPart = field(default_factory=PqPart)
    neighbours: int = 0
    calibrator: Calibrator = "percentile"
    percentile: float = 99.99
    mixed_budget: float = 0.02
    samples: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what they say of each other."""
        if self.precision == "fp32" and (self.table == "pq" or self.neighbours):
            raise ValueError(
                'precision is "fp32", which publishes the model as it is; leave table and neighbours out, or use "int8"'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPart:
    """What a request may ask of the engine ([export]).

    Attributes:
        max_k: ranks in the graph (1..3840, TensorRT's most).
        max_batch: largest batch.
        max_exclude: most excluded items of a request, its history included.
    """

    max_k: int = 100
    max_batch: int = 64
    max_exclude: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilePart:
    """Which engines are made ([compile]).

    Attributes:
        targets: "onnxruntime", "tensorrt_rtx:sm86,sm89", "tensorrt"; "onnxruntime" must be among them: it is
            what the gate measures on and what serves when a plan does not fit.
        skip_missing: a target whose libraries are not on this machine is skipped with a note instead of
            refused.
    """

    targets: tuple[str, ...] = ("onnxruntime",)
    skip_missing: bool = False

    def __post_init__(self) -> None:
        """Check the names."""
        for target in self.targets:
            kind, _, capabilities = target.partition(":")
            if kind not in TARGET_KINDS:
                raise ValueError(f"target {target!r} is not known; known are {', '.join(TARGET_KINDS)}")
            if kind == "tensorrt_rtx" and not capabilities:
                raise ValueError(f'target {target!r} needs its GPUs: "tensorrt_rtx:sm86,sm89"')
            if kind == "onnxruntime" and capabilities:
                raise ValueError(f"target {target!r} names GPUs; onnxruntime runs on the CPU, leave them out")
            for name in capabilities.split(",") if capabilities else ():
                if not _CAPABILITY.fullmatch(name.strip().lower()):
                    raise ValueError(f'target {target!r} has the GPU {name!r}; write such as "sm86"')
        if "onnxruntime" not in self.targets:
            raise ValueError('targets must hold "onnxruntime": the gate measures on it')

    def wanted(self) -> tuple[tuple[str, str | None], ...]:
        """Each target as (kind, capability)."""
        pairs: list[tuple[str, str | None]] = []
        for target in self.targets:
            kind, _, capabilities = target.partition(":")
            pairs += (
                [(kind, name.strip()) for name in capabilities.split(",")] if capabilities else [(kind, None)]
            )
        return tuple(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePart:
    """What must hold before anything is published ([gate]).

    Attributes:
        metric: what quality and floor are judged by.
        max_relative_loss: to the FP32 parent, over all gate users; the whole interval must be below it.
        max_slice_loss: to the FP32 parent on a slice; refused where the whole interval is above it.
        batch_sizes: at which the candidate must be faster than its parent.
        min_speedup: by how much (1: at all).
        max_size_ratio: size of the engine over that of its FP32 parent.
        rounds: of parent and candidate in turn, for each batch size (>= 10).
        min_overlap: mean share of top items that golden answers share with the reference; None: by precision.
        allow_below_floor: publish, flagged, what does not beat the transition counts.
        max_users: judge on at most this many (0: all).
        seed: of resampling and of the choice of users.
        on_refused: "publish_parent" builds and publishes the FP32 parent instead of a refused candidate.
        fairness: groups of items and users ([gate.fairness]).
        footprint: measure memory, latency and CPU of the engines, each in a process of its own.
        keep_examples: keep what was judged on in the version, for ``compare``; no user ids are in it.
    """

    metric: str = "ndcg@10"
    max_relative_loss: float = 0.01
    max_slice_loss: float = 0.05
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    min_speedup: float = 1.0
    max_size_ratio: float = 1.0
    rounds: int = 60
    min_overlap: float | None = None
    allow_below_floor: bool = False
    max_users: int = 0
    seed: int = 0
    on_refused: OnRefused = "stop"
    fairness: FairnessPart = field(default_factory=FairnessPart)
    footprint: bool = True
    keep_examples: bool = True

    def __post_init__(self) -> None:
        """Check the metric's name."""
        metric_cutoff(self.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPart:
    """What becomes of the finished version ([publish]).

    Attributes:
        keep: versions to keep of this model, the current one always (>= 1).
        activate: make the new version current.
        signing_key: private key that signs the version, see ``python -m build_engines keys new``; None: it is not signed.
    """

    keep: int = 5
    activate: bool = True
    signing_key: Path | None = None


def metric_cutoff(metric: str) -> int:
    """How many ranks a metric looks at.

    Raises:
        ValueError: no model can be judged by it case by case.
    """
    kind, _, cutoff = metric.partition("@")
    if kind not in JUDGED_BY or cutoff not in map(str, CUTOFFS):
        known = ", ".join(f"{name}@{CUTOFFS[1]}" for name in JUDGED_BY)
        raise ValueError(f"metric is {metric!r}; use one such as {known}, at {', '.join(map(str, CUTOFFS))}")
    return int(cutoff)
