"""Where an encoder's checkpoint comes from: a folder, the files of an installed package, or a model hub, pinned by hash.

A package is looked up and never imported: what is wanted of it is a file, not its code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from build_engines.data.errors import DataError
from build_engines.encoder.recipe_parts import EncoderCheckpointPart
from build_engines.models.encoder.sentence import weights_folder
from server.artifacts.repository import file_sha256

WEIGHTS = "model.safetensors"
SMALL_RECIPE = "build_engines/recipes/sample_support_small.toml"
# What is fetched of a hub's repository: no code, no other formats of the same weights.
FETCHED = ("*.json", "*/*.json", "*.safetensors", "*/*.safetensors")


def find_checkpoint(part: EncoderCheckpointPart) -> tuple[Path, str]:
    """The folder, and where it came from in words.

    Raises:
        DataError: it is not there, cannot be fetched, or is not what was pinned; says what to do.
    """
    if part.folder is not None:
        folder, origin = part.folder, f"folder {part.folder.name}"
        if not folder.is_dir():
            raise DataError(folder, "is no folder", hint="name a checkpoint in Hugging Face form")
    elif part.package is not None:
        folder, origin = _packaged(part.package), f"package {part.package}"
    else:
        assert part.hub is not None and part.revision is not None, "one that is trained is not looked for"
        folder = _fetched(part.hub, part.revision)
        origin = f"hub {part.hub} at {part.revision}"
    if part.sha256 is not None:
        _check(weights_folder(folder) / WEIGHTS, part.sha256)
    return folder.resolve(), origin


def checkpoint_files(folder: Path) -> list[Path]:
    """Everything that the line reads of a checkpoint, in order."""
    return sorted({*folder.glob("*.json"), *folder.glob("*/*.json"), *folder.rglob("*.safetensors")})


def _packaged(name: str) -> Path:
    package, _, inner = name.partition("/")
    distribution = package.replace("_", "-")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    if not places:
        raise DataError(
            name,
            "is not installed",
            hint=f"install it: pip install {distribution}, or pip install '.[encoder]'; where it cannot be had, "
            f"build {SMALL_RECIPE}: a small encoder trained on the shop's own texts",
        )
    folder = Path(places[0]) / inner
    if not folder.is_dir() or ".." in Path(inner).parts:
        raise DataError(folder, "is not in that package", hint="name the folder that holds config.json")
    return folder


def _fetched(name: str, revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FETCHED)))
    except Exception as error:  # its own errors, those of its HTTP client, and of the file system
        raise DataError(
            name,
            f"cannot be fetched at {revision} ({type(error).__name__}: {str(error).splitlines()[0][:200]})",
            hint="where no model hub is reachable, name an installed package or a folder in [checkpoint], or train a small one as "
            f"{SMALL_RECIPE} does",
        ) from error


def _check(path: Path, wanted: str) -> None:
    if not path.is_file():
        raise DataError(path, "is missing", hint="sha256 is of this file; give a checkpoint that has it")
    found = file_sha256(path)
    if found != wanted:
        raise DataError(
            path,
            f"has SHA-256 {found}, the recipe wants {wanted}",
            hint="these are other weights: fetch the pinned ones, or pin these after looking at them",
        )
