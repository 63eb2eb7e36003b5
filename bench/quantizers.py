"""Our INT8 sentence encoder beside other tools' of the same checkpoint: ``python -m bench.quantizers``.

All begin with one FP32 graph of all-MiniLM-L6-v2 (ours, by hash as in ``sample_support``) and get the same calibration texts;
their graphs are run by the same ONNX Runtime, one thread, batches of 8 texts, in turn round by round. Measured are the file,
the time of a batch, and the mean cosine of the vectors to FP32's on texts that nobody calibrated on. A tool that is not
installed, or that fails, is listed with its own words. For an environment that has them:

    pip install nncf olive-ai nvidia-modelopt

NNCF is what optimum-intel quantizes with. nvidia-modelopt quantizes in torch, to be compiled by TensorRT: its cosine is that of
its simulated rounding, and it has neither file nor time here.

Units: bytes, milliseconds a batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from build_engines.encoder.checkpoint import find_checkpoint
from build_engines.encoder.recipe import load_encoder_recipe
from build_engines.encoder.texts import read_texts
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.graph import EMBEDDING, INPUT_IDS, LENGTHS
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import GRAPH_FILE, package_encoder, resolved_form
from build_engines.speed import measure_in_turn
from server.encoder_domain import InputKind, Truncate
from server.encoding.sentences import load_sentence_codec

BATCH, MOST_TEXTS, CALIBRATED, CALIBRATED_TOKENS = 8, 200, 128, 64
OURS, PARENT = "ours, INT8", "ours, FP32"
Tool = Callable[["Bench"], Path]


@dataclass
class Bench:
    """What every tool gets.

    Attributes:
        scratch: a folder for its files.
        checkpoint: of the encoder.
        fp32: the graph to quantize.
        calibration, judged: token ids.
        failed: by tool, in its own words.
    """

    scratch: Path
    checkpoint: Path
    fp32: Path
    calibration: list[Ids]
    judged: list[Ids]
    failed: dict[str, str] = field(default_factory=dict)

    def feeds(self) -> Iterator[dict[str, Any]]:
        """Calibration batches by input name, all of one shape: some tools put them side by side."""
        cut = [ids[:CALIBRATED_TOKENS] for ids in self.calibration]
        for start in range(0, len(cut) - BATCH + 1, BATCH):
            ids_BT, lengths_B = padded(cut[start : start + BATCH])
            wide_BT = np.zeros((BATCH, CALIBRATED_TOKENS), np.int64)
            wide_BT[:, : ids_BT.shape[1]] = ids_BT
            yield {INPUT_IDS: wide_BT, LENGTHS: lengths_B}


def main() -> int:
    """Measure, print a table, write ``quantizers.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.quantizers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of all in turn (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="default: %(default)s")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(Path(scratch), rounds=args.rounds)
    (args.out / "quantizers.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (args.out / "quantizers.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def measure(scratch: Path, *, rounds: int) -> dict[str, Any]:
    """Every tool's file, time and cosine.

    Args:
        scratch: an empty folder.
        rounds: of all in turn.
    """
    bench = _bench(scratch)
    graphs: dict[str, Path] = {PARENT: bench.fp32}
    for name, tool in TOOLS.items():
        try:
            graphs[name] = tool(bench)
            _vectors(graphs[name], bench.judged[:BATCH])
        except Exception as error:  # each tool has errors of its own
            graphs.pop(name, None)
            bench.failed[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    wanted_ND = _vectors(bench.fp32, bench.judged)
    sessions = {name: _session(path) for name, path in graphs.items()}
    ids_BT, lengths_B = padded(sorted(bench.judged, key=len)[len(bench.judged) // 2 :][:BATCH])
    feed = {INPUT_IDS: ids_BT, LENGTHS: lengths_B}

    def runner(session: ort.InferenceSession) -> Callable[[], object]:
        return lambda: session.run([EMBEDDING], feed)

    times = measure_in_turn({name: runner(one) for name, one in sessions.items()}, rounds=rounds)
    rows = []
    for name, path in graphs.items():
        ratios = [a / b for a, b in zip(times[PARENT], times[name], strict=True)]
        rows.append(
            {
                "tool": name,
                "bytes": sum(one.stat().st_size for one in _files(path)),
                "ms": statistics.median(times[name]) * 1e3,
                "faster": statistics.median(ratios),
                "cosine": _cosine(_vectors(path, bench.judged), wanted_ND),
            }
        )
    try:
        rows.append(_modelopt(bench, wanted_ND))
    except Exception as error:
        bench.failed["nvidia-modelopt"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    return {
        "batch": BATCH,
        "tokens": int(ids_BT.shape[1]),
        "texts": len(bench.judged),
        "rounds": rounds,
        "rows": rows,
        "failed": bench.failed,
    }


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"Batches of {result['batch']} texts of {result['tokens']} tokens, one thread, median of {result['rounds']} rounds in turn; "
        f"cosine on {result['texts']} texts.",
        "",
        "| tool | MB | ms a batch | faster than FP32 | cosine |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        size = "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f}"
        took = "-" if row["ms"] is None else f"{row['ms']:.1f}"
        faster = "-" if row["faster"] is None else f"{row['faster']:.2f}"
        lines.append(f"| {row['tool']} | {size} | {took} | {faster} | {row['cosine']:.4f} |")
    lines += ["", *(f"- {name}: {why}" for name, why in result["failed"].items())]
    return "\n".join(lines) + "\n"


def _bench(scratch: Path) -> Bench:
    recipe = load_encoder_recipe(Path("sample_support"))
    checkpoint, _ = find_checkpoint(recipe.checkpoint)
    sets = read_texts(recipe.texts)
    package_encoder(checkpoint, scratch / "fp32", options=EncoderOptions(variant="fp32"))
    arch, form = resolved_form(checkpoint, EncoderOptions(variant="fp32"))
    codec = load_sentence_codec(
        checkpoint / "tokenizer.json",
        vocab_size=arch.vocab_size,
        max_tokens=form.max_tokens,
        prefixes={kind: "" for kind in InputKind},
    )

    def ids(texts: Sequence[str], most: int) -> list[Ids]:
        plain = [text for text in texts if text.isascii()][:most]
        tokens = codec.encode(plain, InputKind.PLAIN, Truncate.END)
        return [np.asarray(one.ids, np.int64) for one in tokens]

    return Bench(
        scratch=scratch,
        checkpoint=checkpoint,
        fp32=scratch / "fp32" / GRAPH_FILE,
        calibration=ids(sets.calibration, CALIBRATED),
        judged=ids(sets.gate, MOST_TEXTS),
    )


def _ours(bench: Bench) -> Path:
    folder = bench.scratch / "int8"
    package_encoder(
        bench.checkpoint, folder, options=EncoderOptions(variant="int8"), calibration=bench.calibration
    )
    return folder / GRAPH_FILE


def _dynamic(bench: Bench) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = bench.scratch / "dynamic.onnx"
    # Products only: its own choice of operators makes a graph of opset 24 that its runtime refuses (1.32).
    quantize_dynamic(
        bench.fp32,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return path


def _static(bench: Bench, method: str) -> Path:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = bench.feeds()

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    path = bench.scratch / f"static_{method}.onnx"
    quantize_static(
        bench.fp32,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        calibrate_method=getattr(CalibrationMethod, method),
    )
    return path


def _nncf(bench: Bench) -> Path:
    import nncf
    import onnx

    model = onnx.load(str(bench.fp32))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(bench.feeds())),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(bench.calibration) // BATCH,
    )
    path = bench.scratch / "nncf.onnx"
    onnx.save(quantized, str(path))
    return path


def _olive(bench: Bench) -> Path:
    import importlib.util

    if importlib.util.find_spec("olive") is None:
        raise ModuleNotFoundError("No module named 'olive'")
    folder = bench.scratch / "olive"
    command = [sys.executable, "-m", "olive", "auto-opt", "--model_name_or_path", str(bench.fp32)]
    command += ["--output_path", str(folder), "--device", "cpu", "--provider", "CPUExecutionProvider"]
    done = subprocess.run([*command, "--precision", "int8"], capture_output=True, text=True, timeout=900)
    found = sorted(folder.rglob("*.onnx"))
    if done.returncode or not found:
        raise RuntimeError((done.stderr or done.stdout).strip()[-300:])
    return found[0]


def _modelopt(bench: Bench, wanted_ND: Any) -> dict[str, Any]:
    import modelopt.torch.quantization as mtq
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(bench.checkpoint).eval()

    def vectors(texts: Sequence[Ids]) -> Any:
        found = np.zeros((len(texts), model.config.hidden_size), np.float32)
        with torch.no_grad():
            for place, ids in enumerate(texts):
                hidden = model(torch.from_numpy(ids)[None]).last_hidden_state[0].mean(dim=0)
                found[place] = torch.nn.functional.normalize(hidden, dim=0).numpy()
        return found

    plain = _cosine(vectors(bench.judged), wanted_ND)
    if plain < 0.9999:
        raise RuntimeError(f"its FP32 model has cosine {plain:.4f} to ours")
    mtq.quantize(model, mtq.INT8_SMOOTHQUANT_CFG, lambda _: vectors(bench.calibration))
    return {
        "tool": "nvidia-modelopt, INT8 SmoothQuant (simulated)",
        "bytes": None,
        "ms": None,
        "faster": None,
        "cosine": _cosine(vectors(bench.judged), wanted_ND),
    }


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _vectors(path: Path, texts: Sequence[Ids]) -> Any:
    session = _session(path)
    found = []
    for start in range(0, len(texts), BATCH):
        ids_BT, lengths_B = padded(texts[start : start + BATCH])
        found.append(session.run([EMBEDDING], {INPUT_IDS: ids_BT, LENGTHS: lengths_B})[0])
    return np.concatenate(found)


def _cosine(one_ND: Any, other_ND: Any) -> float:
    sizes = np.linalg.norm(one_ND, axis=1) * np.linalg.norm(other_ND, axis=1)
    return float(((one_ND * other_ND).sum(axis=1) / sizes).mean())


def _files(path: Path) -> list[Path]:
    return [path, *path.parent.glob(f"{path.name}.data"), *path.parent.glob(f"{path.name}_data")]


TOOLS: dict[str, Tool] = {
    OURS: _ours,
    "onnxruntime.quantization, dynamic": _dynamic,
    "onnxruntime.quantization, static min-max": lambda bench: _static(bench, "MinMax"),
    "onnxruntime.quantization, static entropy": lambda bench: _static(bench, "Entropy"),
    "onnxruntime.quantization, static percentile": lambda bench: _static(bench, "Percentile"),
    "NNCF (as optimum-intel)": _nncf,
    "Olive auto-opt": _olive,
}


if __name__ == "__main__":
    sys.exit(main())
