"""Who a student learns from: the model as it was before the chain, a checkpoint of the same family, or an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from build_engines.compression.model import Compressible, Traces
from build_engines.errors import BuildError


class Teacher(Protocol):
    """Whoever is asked about examples by their numbers."""

    @property
    def identity(self) -> str:
        """Digest of all that its answers depend on."""

    @property
    def blocks(self) -> int:
        """Of its network; 0: it shows no hidden states."""

    def traces(self, batch: Sequence[int]) -> Traces:
        """Without gradients and dropout."""


@runtime_checkable
class Reopens(Protocol):
    """A ``Compressible`` that can be had with other weights: a family's own files, on the same examples."""

    def reopened(self, folder: Path) -> Compressible:
        """The model in a folder (what ``save`` writes, or what the family's recipe names), with these examples.

        Raises:
            BuildError: the folder holds no model of this family.
        """


class LiveTeacher:
    """A model in this process.

    Args:
        model: never changed.
        identity: of its weights.
    """

    def __init__(self, model: Compressible, identity: str) -> None:
        self.model, self.identity = model, identity
        self.model.module.eval().requires_grad_(False)

    @property
    def blocks(self) -> int:
        """Of the model."""
        return self.model.sizes.blocks

    def traces(self, batch: Sequence[int]) -> Traces:
        """As the model computes them."""
        self.model.module.eval()
        with torch.no_grad():
            return self.model.traces(batch)


def open_teacher(path: Path | None, student: Compressible, parent: Compressible, cache: Path) -> Teacher:
    """The teacher that a recipe names.

    Args:
        path: None: the parent; a folder: a checkpoint; ``*.onnx``: a graph.
        student: of whose examples it is asked.
        parent: the model before the chain.
        cache: file for the answers of a teacher that is costly to ask.

    Raises:
        BuildError: it is missing, or of another family.
    """
    from build_engines.compression.weights_digest import weights_digest

    if path is None:
        identity = weights_digest(parent.module)
        if identity == weights_digest(student.module):
            raise BuildError(
                "distil: the teacher is the student itself; name another as teacher, or narrow the model in an earlier step"
            )
        return LiveTeacher(parent, identity)
    if path.is_dir():
        if not isinstance(student, Reopens):
            raise BuildError(
                f"distil: teacher {path}: a {student.family} cannot be opened from a folder here"
            )
        opened = student.reopened(path)
        if opened.family != student.family:
            raise BuildError(f"distil: teacher {path} is a {opened.family}, the student a {student.family}")
        return LiveTeacher(opened, weights_digest(opened.module))
    if not path.is_file():
        raise BuildError(
            f"distil: teacher {path} is not there; name a checkpoint folder or an .onnx file, or leave it out to learn "
            "from the model as it was before the first step"
        )
    if path.suffix != ".onnx":
        raise BuildError(f"distil: teacher {path} is neither a folder nor an .onnx file")
    from build_engines.compression.teacher_onnx import OnnxTeacher

    return OnnxTeacher(path, student, cache)
