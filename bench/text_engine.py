"""The text engine alone, without a batcher: decode steps and prefill by precision, against what memory allows.

    python -m bench.text_engine FOLDER [--variants int8+int4:128,int4,int8,fp32] [--threads 2]

FOLDER keeps a checkpoint of Qwen2.5-0.5B's shape with random weights and the packages made of it: speed does not depend on
what weights say. A variant may say the block of its INT4 weights (32); one of two graphs has a row for each. All are timed in turn, a call each, so that a noisy neighbour meets all of them. CPU time stands
beside wall time: where others compute as well, only it is a figure of the engine.

The floor of a decode step is the bytes of all matrices over the rate at which this machine reads memory with that many
threads. Units: milliseconds, tokens a second, bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np

from build_engines.models.causal.options import GRAPHS, TextOptions, Variant
from build_engines.models.causal.package import GRAPH_FILE, LIGHT_FILE, package_text
from build_engines.models.causal.store import SUFFIX
from server.engines.causal import CausalCall
from server.engines.onnxruntime_causal import OnnxRuntimeCausal

SHAPE: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 4096,
    "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "eos_token_id": 2,
}  # fmt: skip
CAPACITY, FILLED, SLOTS, CHUNK = 512, 256, 8, 256
CALLS = {"decode_1": (1, 1), "decode_8": (SLOTS, 1), "prefill_256": (1, CHUNK)}
ROUNDS = {"decode_1": 40, "decode_8": 20, "prefill_256": 5}
VARIANTS = "int8+int4:128,int4"
READ_BYTES = 200_000_000


def make_checkpoint(folder: Path, shape: dict[str, Any] = SHAPE) -> Path:
    """Write a checkpoint of that shape with random weights in half precision; kept when it is there."""
    from safetensors.numpy import save_file

    if (folder / "model.safetensors").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    dim, hidden = shape["hidden_size"], shape["intermediate_size"]
    keys = dim // shape["num_attention_heads"] * shape["num_key_value_heads"]

    def matrix(*size: int) -> Any:
        return (rng.standard_normal(size, dtype=np.float32) * 0.02).astype(np.float16)

    tensors = {"model.embed_tokens.weight": matrix(shape["vocab_size"], dim)}
    norms = ["model.norm.weight"]
    for index in range(shape["num_hidden_layers"]):
        base = f"model.layers.{index}"
        sizes = {
            "self_attn.q": dim,
            "self_attn.k": keys,
            "self_attn.v": keys,
            "mlp.gate": hidden,
            "mlp.up": hidden,
        }
        for name, width in sizes.items():
            tensors[f"{base}.{name}_proj.weight"] = matrix(width, dim)
            if name.startswith("self_attn"):
                tensors[f"{base}.{name}_proj.bias"] = matrix(width)
        tensors[f"{base}.self_attn.o_proj.weight"] = matrix(dim, dim)
        tensors[f"{base}.mlp.down_proj.weight"] = matrix(dim, hidden)
        norms += [f"{base}.input_layernorm.weight", f"{base}.post_attention_layernorm.weight"]
    tensors.update({name: np.ones(dim, np.float16) for name in norms})
    (folder / "config.json").write_text(json.dumps(shape))
    save_file(tensors, folder / "model.safetensors")
    return folder


def package(checkpoint: Path, folder: Path, asked: str) -> dict[str, Any]:
    """Package a variant ("int4", "int8+int4:128"), unless it is there; says how long it took."""
    variant, block = parse(asked)
    vocab_size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    calibration = [np.random.default_rng(seed).integers(0, vocab_size, (2, 128)) for seed in range(2)]
    began = time.perf_counter()
    if not (folder / "model.onnx").is_file():
        options = TextOptions(variant=variant, block=block, max_context=2048, max_chunk=CHUNK)
        package_text(
            checkpoint, folder, options=options, calibration=calibration if "int8" in variant else ()
        )
    return {"variant": asked, "package_s": time.perf_counter() - began}


def parse(asked: str) -> tuple[Variant, int]:
    """Variant and block."""
    variant, _, block = asked.partition(":")
    return cast("Variant", variant), int(block or 32)


def measure(checkpoint: Path, folders: dict[str, Path], threads: int = 2) -> list[dict[str, Any]]:
    """Time all variants in turn.

    Returns:
        A row a graph: for each of ``CALLS`` median and least wall time and median CPU time ("_ms", "_best_ms",
        "_cpu_ms"), tokens a second by the median ("_tok_s"), and "floor_ms" of a decode step with "read_gb_s".
    """
    engines: dict[str, OnnxRuntimeCausal] = {}
    rows: list[dict[str, Any]] = []
    graphs: list[tuple[str, Path, bool]] = []
    for variant, folder in folders.items():
        began = time.perf_counter()
        light = folder / LIGHT_FILE
        engine = engines[variant] = OnnxRuntimeCausal(
            folder / GRAPH_FILE,
            pools={CAPACITY: SLOTS},
            threads=threads,
            max_chunk=CHUNK,
            light=light if light.is_file() else None,
        )
        load_s = time.perf_counter() - began
        for at, precision in enumerate(GRAPHS[parse(variant)[0]][: 1 + engine.limits.light]):
            rows.append({"variant": variant, "graph": precision, "load_s": load_s})
            graphs.append((variant, folder / (GRAPH_FILE, LIGHT_FILE)[at], at == 1))
    speed = read_bytes_s(threads)
    for name, (size, width) in CALLS.items():
        steps = [_call(engines[variant], size, width, light) for variant, _, light in graphs]
        wall, cpu = _in_turn(steps, ROUNDS[name])
        for row, wall_R, cpu_R in zip(rows, wall, cpu, strict=True):
            row[f"{name}_ms"] = float(np.median(wall_R)) * 1e3
            row[f"{name}_best_ms"] = min(wall_R) * 1e3
            row[f"{name}_cpu_ms"] = float(np.median(cpu_R)) * 1e3
            row[f"{name}_tok_s"] = size * width / float(np.median(wall_R))
    for row, (_, graph, is_light) in zip(rows, graphs, strict=True):
        row["read_gb_s"] = speed / 1e9
        row["floor_ms"] = matrix_bytes(checkpoint, graph, is_light) / speed * 1e3
    for engine in engines.values():
        engine.close()
    return rows


def matrix_bytes(checkpoint: Path, graph: Path, light: bool) -> int:
    """Bytes that a decode step must read: all weights but the embedding table, which a light graph has not."""
    size = graph.with_suffix(SUFFIX).stat().st_size
    if light:
        return size
    shape = json.loads((checkpoint / "config.json").read_text())
    table = shape["vocab_size"] * shape["hidden_size"] * (4 if graph.parent.name.startswith("fp32") else 2)
    return size - int(table)


def read_bytes_s(threads: int) -> float:
    """How fast this many threads together read memory, the best of a few tries."""
    arrays = [np.ones(READ_BYTES // 8) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(9):
            began = time.perf_counter()
            list(pool.map(np.max, arrays))  # releases the interpreter
            best = max(best, threads * READ_BYTES / (time.perf_counter() - began))
    return best


def _call(engine: OnnxRuntimeCausal, size: int, width: int, light: bool) -> Callable[[], object]:
    ids_BT = np.random.default_rng(0).integers(0, engine.limits.vocab_size, (size, width))
    filled = FILLED if width == 1 else 0
    call = CausalCall(CAPACITY, 0, ids_BT, np.full(size, filled), np.full(size, width), light)
    return lambda: engine.run(call)


def _in_turn(
    steps: Sequence[Callable[[], object]], rounds: int
) -> tuple[list[list[float]], list[list[float]]]:
    wall: list[list[float]] = [[] for _ in steps]
    cpu: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds + 2):
        for place, step in enumerate(steps):
            began, began_cpu = time.perf_counter(), time.process_time()
            step()
            if turn >= 2:
                wall[place].append(time.perf_counter() - began)
                cpu[place].append(time.process_time() - began_cpu)
    return wall, cpu


def run(folder: Path, variants: Sequence[str], threads: int = 2) -> list[dict[str, Any]]:
    """Make what is missing, and measure."""
    checkpoint = make_checkpoint(folder / "checkpoint")
    folders = {one: folder / one.replace(":", "-") for one in variants}
    for variant, place in folders.items():
        print(json.dumps(package(checkpoint, place, variant)), file=sys.stderr, flush=True)
    return measure(checkpoint, folders, threads)


def main() -> None:
    """Make what is missing, measure, and print a JSON line a variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", default=VARIANTS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for row in run(arguments.folder, arguments.variants.split(","), arguments.threads):
        print(json.dumps({key: round(one, 2) if isinstance(one, float) else one for key, one in row.items()}))


if __name__ == "__main__":
    main()
