"""Keys of whoever publishes: made, kept in files, and used to sign manifests (``server.artifacts.signatures`` checks them).

The private key is a PEM file that its owner alone may read; the public one is a line of text for ``VITRINE_TRUSTED_KEYS``.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from build_engines.errors import BuildError
from server.artifacts.releases import Releases
from server.artifacts.signatures import ALGORITHM, Signature, key_id, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_SUFFIX = ".pub"


def new_keys(path: Path, *, comment: str = "") -> tuple[Path, str]:
    """Make a pair of keys.

    Args:
        path: of the private key; the public one is beside it, with ``.pub`` behind its name.
        comment: behind the public key, for people.

    Returns:
        Path and id of the public key.

    Raises:
        BuildError: a file of that name is there, or cannot be written.
    """
    private = _library()
    from cryptography.hazmat.primitives import serialization

    key = private.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes_raw()
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    line = " ".join(
        part for part in (ALGORITHM, base64.b64encode(public).decode("ascii"), comment.strip()) if part
    )
    _write_new(path, pem, 0o600)
    _write_new(public_path, f"{line}\n".encode(), 0o644)
    return public_path, key_id(public)


def signer(path: Path) -> Callable[[bytes], bytes]:
    """What makes ``manifest.sig`` of a manifest's bytes.

    Raises:
        BuildError: the key cannot be read, or is no ed25519 key; says what to do.
    """
    private = _library()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BuildError(
            f"signing key {path}: cannot be read ({error.strerror}); make one with `python -m build_engines keys new {path}`"
        ) from error
    except (ValueError, TypeError) as error:
        raise BuildError(
            f"signing key {path}: is no private key in PEM without a password ({error})"
        ) from error
    if not isinstance(key, private):
        raise BuildError(f"signing key {path}: is a {type(key).__name__}; {ALGORITHM} is needed")
    name = key_id(key.public_key().public_bytes_raw())

    def sign(manifest: bytes) -> bytes:
        signature = base64.b64encode(key.sign(signed_bytes(manifest))).decode("ascii")
        found = Signature(algorithm=ALGORITHM, key=name, signature=signature)
        return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"

    return sign


def releases_for(repository: Path, *, keep: int, signing_key: Path | None) -> Releases:
    """The repository as a recipe publishes to it; a key that cannot be used is told before anything is built.

    Raises:
        BuildError: the key cannot be used.
    """
    return Releases(
        repository=repository, keep=keep, sign=signer(signing_key) if signing_key is not None else None
    )


def _library() -> type[Ed25519PrivateKey]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ModuleNotFoundError as error:
        raise BuildError("signing needs cryptography; install vitrine[signing]") from error
    return Ed25519PrivateKey


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError as error:
        raise BuildError(
            f"{path}: is there already, and a key is never overwritten; name another file"
        ) from error
    except OSError as error:
        raise BuildError(f"{path}: cannot be written ({error.strerror})") from error
