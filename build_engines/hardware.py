"""The machine and the packages that made a build: enough to read a figure by, nothing that names anyone."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from build_engines.fingerprint import code_digest, package_versions

PACKAGES = (
    "vitrine",
    "numpy",
    "torch",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "polars",
    "tokenizers",
    "transformers",
    "safetensors",
    "peft",
    "msgspec",
    "tensorrt-rtx",
    "tensorrt",
)


def describe_hardware() -> dict[str, str]:
    """CPU, cores, memory and system, in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{_cpu_name()}, {cores} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def packages() -> dict[str, str]:
    """Versions of what took part, those that are installed."""
    return {name: version for name, version in package_versions(PACKAGES).items() if version != "absent"}


@functools.cache  # what runs is what was imported, whatever an editor does to the files meanwhile
def code_version() -> str:
    """Version of this project and a digest of its code."""
    version = package_versions(("vitrine",))["vitrine"]
    digest = code_digest(("build_engines", "server"))[:12]
    return f"{'source' if version == 'absent' else version}+{digest}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
