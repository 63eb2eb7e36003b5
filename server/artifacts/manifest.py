"""What one published version is, needs, costs and has proven: the contract of builder and server.

Everything the server must know to serve a version stands here and nowhere else, so that the builder can
change how it makes one without the server knowing. The schema is versioned: a manifest from a newer builder
is refused with a sentence instead of being half understood, and a key that this schema does not know is an
error, never ignored.

``limits`` and ``figures`` are open maps, checked per task, so that a new task (text, embeddings) brings new
names without a new schema.

Units: seconds, bytes; ``created_unix_s`` since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import msgspec

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"

Sense = Literal["at_most", "at_least"]
Kind = Literal["quality", "speed", "parity", "floor", "size"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class FileEntry(_Record, frozen=True, kw_only=True):
    """One file of the version; ``path`` is relative to the version's folder, with forward slashes."""

    path: str
    sha256: str
    size_bytes: int


class TensorInfo(_Record, frozen=True, kw_only=True):
    """One tensor of the graph; a dimension is a number or a symbol ("B", "L", "N")."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Constant(_Record, frozen=True, kw_only=True):
    """A table of the version that stays the same from run to run (the catalogue, transitions, popularity).

    What an engine binds is made of these at load (``server.encoding.tables``): the catalogue is stored once
    and bound twice, and popularity is read by the host alone.

    Attributes:
        tensor: its name.
        file: path of the ``.npy``.
        dtype: numpy name.
        shape: as stored.
    """

    tensor: str
    file: str
    dtype: str
    shape: tuple[int, ...]


class BatchTime(_Record, frozen=True, kw_only=True):
    """Measured engine time for one batch size, over ``repeats`` runs."""

    batch_size: int
    median_s: float
    p90_s: float
    repeats: int


class Cost(_Record, frozen=True, kw_only=True):
    """What a batch of ``n`` costs on the machine that measured it: ``base_s + per_item_s * n``.

    Attributes:
        base_s: a, in seconds (>= 0).
        per_item_s: b, in seconds an item (>= 0).
        measured: the table that a and b were fitted to.
        hardware: the machine, in words.
    """

    base_s: float
    per_item_s: float
    measured: tuple[BatchTime, ...] = ()
    hardware: str = ""


class Target(_Record, frozen=True, kw_only=True):
    """One compiled form of the graph.

    Attributes:
        kind: runner: "onnxruntime", "tensorrt_rtx", "tensorrt".
        file: path of the graph or plan inside the version.
        precision: "fp32", "int8", "fp16" ...
        capability: GPU the plan is for ("sm86"); None for a CPU target.
        built_with: package versions that made it.
        proven: "gated" ran through the gate on this target; "built" was compiled and checked, but never run.
        cost: measured cost, or None where the target was never run.
        built_from: path of the ONNX graph that was compiled, when it is another file.
        entry: "masked" takes the candidate mask as an input; "unmasked" is the same graph with the mask known
            to be all true and its passes over the scores left out, for requests that filter nothing. "light", of a text
            model, is a second graph over the same cache for few rows at once.
    """

    kind: str
    file: str
    precision: str
    capability: str | None = None
    built_with: dict[str, str] = {}
    proven: Literal["gated", "built"] = "built"
    cost: Cost | None = None
    built_from: str | None = None
    entry: Literal["masked", "unmasked", "light"] = "masked"


class Tolerance(_Record, frozen=True, kw_only=True):
    """How far golden answers may differ from the reference and still be the same answers.

    Attributes:
        score_abs: largest absolute score difference.
        score_rel: largest relative score difference, added to ``score_abs``.
        min_overlap: smallest share of a row's top items that must agree (ties and rounding swap neighbours).
    """

    score_abs: float
    score_rel: float = 0.0
    min_overlap: float = 1.0


class Measurement(_Record, frozen=True, kw_only=True):
    """One figure of evidence against its limit.

    Attributes:
        kind: which part of the gate.
        name: what was measured ("NDCG@10 relative loss to the FP32 parent").
        value: the figure.
        unit: its unit ("ratio", "s", "x", "").
        limit: the limit it is held against.
        sense: on which side of ``limit`` it must be.
        verdict: pass, fail, or undecidable at this sample size.
        sample_size: users, examples or runs it rests on.
        interval: confidence interval of ``value``, or None.
        confidence: of the interval.
        note: a sentence: what would decide it, or what was waived and why.
        waived_by: the flag that allows publishing although it failed, or None.
    """

    kind: Kind
    name: str
    value: float
    unit: str
    limit: float
    sense: Sense
    verdict: Literal["pass", "fail", "undecidable"]
    sample_size: int
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    note: str = ""
    waived_by: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it passed; a NaN, an infinity or an empty sample never does, whatever the verdict says."""
        if self.verdict != "pass" or not math.isfinite(self.value) or self.sample_size <= 0:
            return False
        return self.value <= self.limit if self.sense == "at_most" else self.value >= self.limit

    def holds(self, flags: Collection[str]) -> bool:
        """Whether it passed, or failed with a number and under a flag that says so; only the floor can be waived."""
        waived = self.waived_by is not None and self.waived_by in flags and self.kind == "floor"
        return self.passed or (waived and math.isfinite(self.value) and self.sample_size > 0)

    def sentence(self) -> str:
        """The figure (or that there is none), its limit and its sample size, for people."""
        side = "at most" if self.sense == "at_most" else "at least"
        between = "" if self.interval is None else f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        unit = f" {self.unit}" if self.unit and self.unit != "ratio" else ""
        figure = f"{self.value:.4g}{between}{unit}" if math.isfinite(self.value) else "not measurable"
        text = f"{self.name}: {figure}, must be {side} {self.limit:.4g}{unit} "
        text += f"(n = {self.sample_size}): {self.verdict}"
        return f"{text}; {self.note}" if self.note else text


class Calibration(_Record, frozen=True, kw_only=True):
    """What activation ranges were measured on; disjoint from the gate's users.

    Attributes:
        method: "minmax", "percentile" ...
        samples: histories used.
        seed: of the draw.
        data_sha256: hash of the histories used, so that a leak into the gate can be found.
    """

    method: str
    samples: int
    seed: int
    data_sha256: str


class CompressionStep(_Record, frozen=True, kw_only=True):
    """One step that made a model smaller.

    Attributes:
        step: its name.
        said: what it did, in a sentence.
        options: what the recipe asked of it, as a JSON object.
        figures: what it measured.
        before, after: sizes of the network.
    """

    step: str
    said: str
    options: str = "{}"
    figures: dict[str, float] = {}
    before: dict[str, int] = {}
    after: dict[str, int] = {}


class Provenance(_Record, frozen=True, kw_only=True):
    """Where the version came from, enough to make it again.

    Attributes:
        recipe: the whole recipe, with what was set on the command line.
        recipe_sha256: of that text.
        build: digest of everything that was built; the same build is not published twice.
        data: SHA-256 of each data file, by its name.
        code_version: version of this project.
        packages: versions of what built it.
        hardware: the machine that measured.
        seeds: by what they seeded.
        durations_s: by stage.
        chain: steps that compressed it before it was quantized, in order.
    """

    recipe: str
    recipe_sha256: str
    build: str = ""
    data: dict[str, str] = {}
    code_version: str = ""
    packages: dict[str, str] = {}
    hardware: dict[str, str] = {}
    seeds: dict[str, int] = {}
    durations_s: dict[str, float] = {}
    chain: tuple[CompressionStep, ...] = ()


class Manifest(_Record, frozen=True, kw_only=True):
    """One version.

    Attributes:
        schema_version: of this record.
        model: model name, as its folder.
        version: number as text, as its folder; "0" until published.
        task: "recommendation" ...
        created_unix_s: when it was published.
        graph: path of the ONNX graph that serves or was compiled.
        files: every file of the version but the manifest itself.
        inputs: of the graph, those that change from run to run.
        outputs: of the graph.
        constants: runtime constants, bound once.
        limits: what a request may ask, per task (see ``REQUIRED_LIMITS``).
        parameters: other numbers that serving needs ("decay", "window"), per task.
        targets: compiled forms, best first.
        parity: tolerance of the golden replay.
        evidence: what the gate measured.
        figures: other figures worth listing ("ndcg@10", "items", "size_bytes").
        flags: what a reader must know ("below_floor").
        calibration: None for what was not quantized.
        provenance: where it came from.
    """

    schema_version: int
    model: str
    version: str
    task: str
    created_unix_s: float
    graph: str
    files: tuple[FileEntry, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    constants: tuple[Constant, ...]
    limits: dict[str, int]
    parameters: dict[str, float]
    targets: tuple[Target, ...]
    parity: Tolerance
    evidence: tuple[Measurement, ...]
    figures: dict[str, float]
    provenance: Provenance
    calibration: Calibration | None = None
    flags: tuple[str, ...] = ()

    def target(self, kind: str, entry: str | None = None) -> Target | None:
        """The first target of this kind (and entry, if one is given), or None."""
        return next(
            (item for item in self.targets if item.kind == kind and entry in (None, item.entry)), None
        )
