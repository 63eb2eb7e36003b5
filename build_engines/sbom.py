"""What the server is made of: a bill of materials (CycloneDX) of its runtime, from what is installed here.

Only what ``vitrine`` itself requires, and what that requires in turn, on this interpreter and system: no builder, no tests.
The same environment gives the same bytes; no time and no random number are in them.

Source:
    CycloneDX specification 1.6, ECMA-424.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from build_engines.errors import BuildError
from build_engines.hardware import code_version

PROJECT = "vitrine"
SPEC_VERSION = "1.6"
# Trove classifiers that mean one SPDX licence; others are told by their name.
_CLASSIFIED = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}


def runtime_sbom(project: str = PROJECT, extras: Sequence[str] = ()) -> bytes:
    """CycloneDX JSON of an installed project and all that it needs to run.

    Args:
        project: its distribution.
        extras: of it, besides what it always needs.

    Raises:
        BuildError: it, or something that it requires, is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    needs: dict[str, list[str]] = {}
    todo: list[tuple[str, frozenset[str]]] = [(canonicalize_name(project), frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found.setdefault(name, importlib.metadata.distribution(name))
        except importlib.metadata.PackageNotFoundError as error:
            raise BuildError(
                f"{name} is not installed here; install {project} where the list is made"
            ) from error
        for required in _required(found[name], wanted):
            other = canonicalize_name(required.name)
            needs.setdefault(name, []).append(other)
            todo.append((other, frozenset(required.extras)))
    root = canonicalize_name(project)
    components = [_component(one) for name, one in sorted(found.items()) if name != root]
    own = _component(found[root])
    own["type"] = "application"
    own["version"] = code_version() if project == PROJECT else own["version"]
    references = {name: _reference(one) for name, one in found.items()}
    own["bom-ref"] = references[root]
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {"component": own},
        "components": components,
        "dependencies": [
            {"ref": references[name], "dependsOn": sorted({references[one] for one in needs.get(name, ())})}
            for name in sorted(found)
        ],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _required(distribution: importlib.metadata.Distribution, extras: Iterable[str]) -> list[Requirement]:
    kept = []
    for text in distribution.requires or []:
        try:
            required = Requirement(text)
        except InvalidRequirement as error:
            raise BuildError(f"{distribution.name}: requirement {text!r} cannot be read ({error})") from error
        asked = [{"extra": extra} for extra in ("", *extras)]
        if required.marker is None or any(required.marker.evaluate(one) for one in asked):
            kept.append(required)
    return kept


def _component(distribution: importlib.metadata.Distribution) -> dict[str, Any]:
    metadata: Any = distribution.metadata  # a message of email: typeshed's protocol does not know its ``get``
    described: dict[str, Any] = {
        "type": "library",
        "bom-ref": _reference(distribution),
        "name": distribution.name,
        "version": distribution.version,
        "purl": _reference(distribution),
    }
    if metadata.get("Summary"):
        described["description"] = metadata["Summary"]
    licenses = _licenses(metadata)
    if licenses:
        described["licenses"] = licenses
    return described


def _reference(distribution: importlib.metadata.Distribution) -> str:
    return f"pkg:pypi/{canonicalize_name(distribution.name)}@{distribution.version}"


def _licenses(metadata: Any) -> list[dict[str, Any]]:
    expression = metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    classified = [_CLASSIFIED[one] for one in metadata.get_all("Classifier", []) if one in _CLASSIFIED]
    if classified:
        return [{"license": {"id": one}} for one in dict.fromkeys(classified)]
    text = (metadata.get("License") or "").strip()
    if text and len(text) < 100 and "\n" not in text:
        return [{"license": {"name": text}}]
    return []
