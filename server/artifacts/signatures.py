"""Who built a version: ed25519 signatures of manifests, checked before anything of a version is believed.

A manifest holds the SHA-256 of every file, the model's name and the version's number, so one signature over its bytes covers
all of it. It lies beside it (``manifest.sig``), since a file cannot hold its own signature. What is signed begins with a word
of our own, so that a signature made for something else is none for a manifest.

An older version that was signed stays good: rolling back must work without the builder's key. Whoever may write to the
repository can therefore bring back an old signed version, and nothing that was never signed.

``cryptography`` is imported only where keys are configured (extra ``signing``).

Source:
    Josefsson and Liusvaara, "Edwards-Curve Digital Signature Algorithm (EdDSA)", RFC 8032, 2017.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from server.artifacts.errors import UntrustedVersion

SIGNATURE_FILE = "manifest.sig"
ALGORITHM = "ed25519"
KEY_BYTES, SIGNATURE_BYTES = 32, 64
_CONTEXT = b"vitrine manifest signature 1\0"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``manifest.sig`` holds.

    Attributes:
        algorithm: "ed25519".
        key: which key, see ``key_id``.
        signature: base64 of 64 bytes.
    """

    algorithm: str
    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Whose versions are served.

    Attributes:
        keys: public keys, 32 bytes each.
    """

    keys: tuple[bytes, ...]

    @classmethod
    def read(cls, entries: Sequence[str]) -> TrustedKeys:
        """Keys by file or as text.

        Args:
            entries: paths of files as ``python -m build_engines keys new`` writes them (several keys a file are fine), or
                keys themselves, base64.

        Raises:
            ValueError: an entry is neither, or the library for it is missing; names it.
        """
        try:
            import cryptography  # noqa: F401 - its absence must be told now, not at the first version
        except ModuleNotFoundError as error:
            raise ValueError(
                "trusted keys are configured, but cryptography is not installed; install vitrine[signing]"
            ) from error
        found: list[bytes] = []
        for entry in entries:
            path = Path(entry)
            try:
                lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else [entry]
                keys = [parse_key(line) for line in lines if line.strip() and not line.startswith("#")]
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"trusted key {entry}: cannot be read ({error})") from error
            if not keys:
                raise ValueError(f"trusted key {entry}: holds no key; one a line is needed")
            found += keys
        return cls(tuple(found))

    def check(self, folder: Path, manifest: bytes) -> str:
        """Hold a manifest's bytes against the signature beside it.

        Returns:
            Id of the key that signed it.

        Raises:
            UntrustedVersion: there is no signature, it is by another key, or of other bytes; says which.
        """
        found = read_signature(folder)
        if found is None:
            raise UntrustedVersion(folder, "is not signed, and only signed versions are served here")
        wanted = next((key for key in self.keys if key_id(key) == found.key), None)
        if wanted is None:
            known = ", ".join(key_id(key) for key in self.keys)
            raise UntrustedVersion(
                folder, f"is signed by key {found.key}, which is not trusted here (trusted: {known})"
            )
        if not _verifies(wanted, found, manifest):
            raise UntrustedVersion(
                folder, f"has a manifest that key {found.key} did not sign: it was changed"
            )
        return found.key


def signed_bytes(manifest: bytes) -> bytes:
    """What is signed of a manifest."""
    return _CONTEXT + manifest


def key_id(public_key: bytes) -> str:
    """How a key is named to people: the beginning of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def parse_key(line: str) -> bytes:
    """A line "ed25519 BASE64 comment", or the base64 alone, as 32 bytes.

    Raises:
        ValueError: it is no such key.
    """
    words = line.split()
    text = words[1] if len(words) > 1 and words[0] == ALGORITHM else (words[0] if words else "")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"trusted key {line.strip()[:60]!r}: neither a file nor a public key ({ALGORITHM} and 44 characters of base64)"
        )
    return key


def read_signature(folder: Path) -> Signature | None:
    """What lies beside a manifest; None where nothing does.

    Raises:
        UntrustedVersion: it is no signature.
    """
    path = folder / SIGNATURE_FILE
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UntrustedVersion(folder, f"has a signature that cannot be read ({error.strerror})") from error
    try:
        return msgspec.json.decode(data, type=Signature)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UntrustedVersion(folder, f"has a damaged {SIGNATURE_FILE} ({error})") from error


def _verifies(public_key: bytes, found: Signature, manifest: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if found.algorithm != ALGORITHM:
        return False
    try:
        signature = base64.b64decode(found.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed_bytes(manifest))
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True
