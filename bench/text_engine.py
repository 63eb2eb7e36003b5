"""The text engine alone, without a batcher: decode steps and prefill by precision, against what memory allows.

    python -m bench.text_engine FOLDER [--variants int4,int8,fp32] [--threads 2]

FOLDER keeps a checkpoint of Qwen2.5-0.5B's shape with random weights and the packages made of it: speed does not depend on
what weights say. Variants are timed in turn, a call each, so that a noisy neighbour meets all of them. CPU time stands
beside wall time: where others compute as well, only it is a figure of the engine.

The floor of a decode step is the bytes of all matrices over the rate at which this machine reads memory with that many
threads. Units: milliseconds, tokens a second, bytes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from build_engines.models.causal.options import TextOptions, Variant
from build_engines.models.causal.package import package_text
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


def package(checkpoint: Path, folder: Path, variant: Variant) -> dict[str, Any]:
    """Package one variant, unless it is there; says how long it took."""
    vocab_size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    calibration = [np.random.default_rng(seed).integers(0, vocab_size, (2, 128)) for seed in range(2)]
    began = time.perf_counter()
    if not (folder / "model.onnx").is_file():
        options = TextOptions(variant=variant, max_context=2048, max_chunk=CHUNK)
        package_text(
            checkpoint, folder, options=options, calibration=calibration if variant == "int8" else ()
        )
    return {"variant": variant, "package_s": time.perf_counter() - began}


def measure(checkpoint: Path, folders: dict[Variant, Path], threads: int = 2) -> list[dict[str, Any]]:
    """Time all variants in turn.

    Returns:
        A row a variant: for each of ``CALLS`` median and least wall time and median CPU time ("_ms", "_best_ms",
        "_cpu_ms"), tokens a second by the median ("_tok_s"), and "floor_ms" of a decode step with "read_gb_s".
    """
    engines, rows = {}, []
    for variant, folder in folders.items():
        began = time.perf_counter()
        engines[variant] = OnnxRuntimeCausal(
            folder / "model.onnx", pools={CAPACITY: SLOTS}, threads=threads, max_chunk=CHUNK
        )
        rows.append({"variant": variant, "load_s": time.perf_counter() - began})
    speed = read_bytes_s(threads)
    for name, (size, width) in CALLS.items():
        steps = {variant: _call(engine, size, width) for variant, engine in engines.items()}
        wall, cpu = _in_turn(list(steps.values()), ROUNDS[name])
        for row, wall_R, cpu_R in zip(rows, wall, cpu, strict=True):
            row[f"{name}_ms"] = float(np.median(wall_R)) * 1e3
            row[f"{name}_best_ms"] = min(wall_R) * 1e3
            row[f"{name}_cpu_ms"] = float(np.median(cpu_R)) * 1e3
            row[f"{name}_tok_s"] = size * width / float(np.median(wall_R))
    for row, folder in zip(rows, folders.values(), strict=True):
        row["read_gb_s"] = speed / 1e9
        row["floor_ms"] = matrix_bytes(checkpoint, folder) / speed * 1e3
    for engine in engines.values():
        engine.close()
    return rows


def matrix_bytes(checkpoint: Path, folder: Path) -> int:
    """Bytes that a decode step must read: all weights but the embedding table."""
    shape = json.loads((checkpoint / "config.json").read_text())
    table = shape["vocab_size"] * shape["hidden_size"] * (4 if folder.name == "fp32" else 2)
    return (folder / "model.weights").stat().st_size - int(table)


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


def _call(engine: OnnxRuntimeCausal, size: int, width: int) -> Callable[[], object]:
    ids_BT = np.random.default_rng(0).integers(0, engine.limits.vocab_size, (size, width))
    filled = FILLED if width == 1 else 0
    call = CausalCall(CAPACITY, 0, ids_BT, np.full(size, filled), np.full(size, width))
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


def main() -> None:
    """Make what is missing, measure, and print a JSON line a variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", default="int4,int8")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    checkpoint = make_checkpoint(arguments.folder / "checkpoint")
    folders: dict[Variant, Path] = {one: arguments.folder / one for one in arguments.variants.split(",")}
    for variant, folder in folders.items():
        print(json.dumps(package(checkpoint, folder, variant)), flush=True)
    for row in measure(checkpoint, folders, arguments.threads):
        print(json.dumps({key: round(one, 2) if isinstance(one, float) else one for key, one in row.items()}))


if __name__ == "__main__":
    main()
