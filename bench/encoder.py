"""Sentence encoders beside one another: ``python -m bench.encoder``.

Texts in, vectors out, tokenizing included: our INT8 and FP32 engines, and, where they are installed, sentence-transformers' ONNX
backend and fastembed (``pip install 'sentence-transformers[onnx]' fastembed``; the first wants transformers below 4.58, so an
environment of its own). All read the same weights and the same texts,
in batches of the same texts, with the same number of threads, and take turns in an order that alternates: a machine's speed
drifts by more than engines differ. A figure is the median over rounds; a ratio is the median of the rounds' own ratios.

The checkpoint is all-MiniLM-L6-v2, by hash, as in the recipe ``sample_support``. Units: seconds, texts a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from build_engines.data.sample_questions import sample_questions
from build_engines.encoder.checkpoint import find_checkpoint
from build_engines.encoder.recipe import load_encoder_recipe
from build_engines.encoder.texts import read_texts
from build_engines.models.encoder.options import EncoderOptions, Variant
from build_engines.models.encoder.package import package_encoder, resolved_form
from server.encoder_domain import InputKind, Truncate
from server.encoding.sentences import SentenceCodec, load_sentence_codec
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder, padded

BATCHES = (1, 8, 32)
OURS: tuple[Variant, ...] = ("int8", "fp32")
SENTENCE_TRANSFORMERS, FASTEMBED = "sentence-transformers (ONNX)", "fastembed"
Encode = Callable[[Sequence[str]], Any]


@dataclass
class Peers:
    """Whoever can be measured here, by name; and why somebody cannot."""

    encode: dict[str, Encode] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Measure, print a table, write ``encoder.json``."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(Path(scratch), threads=args.threads, rounds=args.rounds, texts=args.texts)
    (args.out / "encoder.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (args.out / "encoder.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def measure(scratch: Path, *, threads: int, rounds: int, texts: int) -> dict[str, Any]:
    """Each encoder's rate at each batch size, and how close its vectors are to FP32's.

    Args:
        scratch: an empty folder.
        threads: of each engine.
        rounds: of all in turn.
        texts: read in each round.
    """
    recipe = load_encoder_recipe(Path("sample_support"))
    checkpoint, _ = find_checkpoint(recipe.checkpoint)
    sets = read_texts(recipe.texts)
    english = [one.question for one in sample_questions() if one.language == "en"]
    english += [text for text in sets.gate if text.isascii() and text not in english]
    asked = english[:texts]
    peers = _ours(checkpoint, scratch, [text for text in sets.calibration if text.isascii()], threads)
    _add_sentence_transformers(peers, checkpoint, scratch, threads)
    _add_fastembed(peers, checkpoint, scratch, threads)
    wanted = np.asarray(peers.encode["ours, fp32"](asked))
    rows = [
        {
            "encoder": name,
            "cosine": float((np.asarray(encode(asked)) * wanted).sum(axis=1).mean()),
            "texts_per_s": {},
            "int8_is_faster_by": {},
        }
        for name, encode in peers.encode.items()
    ]
    for size in BATCHES:
        times = _in_turn(peers.encode, asked, size, rounds)
        for row in rows:
            name = row["encoder"]
            row["texts_per_s"][size] = len(asked) / statistics.median(times[name])
            ratios = [other / own for other, own in zip(times[name], times["ours, int8"], strict=True)]
            row["int8_is_faster_by"][size] = statistics.median(ratios)
    return {
        "texts": len(asked),
        "characters": sum(map(len, asked)),
        "threads": threads,
        "rounds": rounds,
        "rows": rows,
        "missing": peers.missing,
    }


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    head = [f"texts/s, batch {size}" for size in BATCHES] + [
        f"INT8 faster by, batch {size}" for size in BATCHES
    ]
    lines = [
        f"{result['texts']} texts of {result['characters'] / result['texts']:.0f} characters, {result['threads']} threads, "
        f"median of {result['rounds']} rounds in turn, tokenizing included.",
        "",
        "| encoder | cosine with FP32 | " + " | ".join(head) + " |",
        "|---|---|" + "---|" * len(head),
    ]
    for row in result["rows"]:
        rates = [f"{value:,.0f}" for value in row["texts_per_s"].values()]
        ratios = [f"{value:.2f}" for value in row["int8_is_faster_by"].values()]
        lines.append(f"| {row['encoder']} | {row['cosine']:.4f} | " + " | ".join(rates + ratios) + " |")
    lines += [f"\n{name}: not measured: {why}" for name, why in result["missing"].items()]
    return "\n".join(lines) + "\n"


def _in_turn(
    encoders: dict[str, Encode], texts: Sequence[str], size: int, rounds: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for name in encoders:
        encoders[name](texts[:size])
    for number in range(rounds):
        for name in list(encoders) if number % 2 == 0 else list(encoders)[::-1]:
            began = time.perf_counter()
            for start in range(0, len(texts), size):
                encoders[name](texts[start : start + size])
            times[name].append(time.perf_counter() - began)
    return times


def _ours(checkpoint: Path, scratch: Path, calibration: Sequence[str], threads: int) -> Peers:
    peers = Peers()
    arch, form = resolved_form(checkpoint, EncoderOptions(variant="fp32"))
    codec = load_sentence_codec(
        checkpoint / "tokenizer.json",
        vocab_size=arch.vocab_size,
        max_tokens=form.max_tokens,
        prefixes={kind: "" for kind in InputKind},
    )
    ids = [codec.encode([text], InputKind.PLAIN, Truncate.END)[0].ids for text in calibration]
    for variant in OURS:
        folder = scratch / variant
        package_encoder(checkpoint, folder, options=EncoderOptions(variant=variant), calibration=ids)
        engine = OnnxRuntimeEncoder(folder / "model.onnx", threads=threads)
        peers.encode[f"ours, {variant}"] = _our_encode(codec, engine)
    return peers


def _our_encode(codec: SentenceCodec, engine: OnnxRuntimeEncoder) -> Encode:
    def encode(texts: Sequence[str]) -> Any:
        tokens = codec.encode(list(texts), InputKind.PLAIN, Truncate.END)
        return engine.run(*padded([one.ids for one in tokens])).embedding_BD

    return encode


def _add_sentence_transformers(peers: Peers, checkpoint: Path, scratch: Path, threads: int) -> None:
    try:
        import onnxruntime as ort
        from sentence_transformers import SentenceTransformer

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        arguments = {"provider": "CPUExecutionProvider", "session_options": options, "export": True}
        model = SentenceTransformer(str(checkpoint), backend="onnx", model_kwargs=arguments)
        model.save_pretrained(str(scratch / "exported"))  # the graph that it made, for fastembed
    except Exception as error:  # each of its libraries has its own
        peers.missing[SENTENCE_TRANSFORMERS] = f"{type(error).__name__}: {str(error)[:200]}"
        return
    peers.encode[SENTENCE_TRANSFORMERS] = lambda texts: model.encode(
        list(texts), batch_size=len(texts), show_progress_bar=False
    )


def _add_fastembed(peers: Peers, checkpoint: Path, scratch: Path, threads: int) -> None:
    try:
        from fastembed import TextEmbedding

        folder = scratch / "fastembed"
        folder.mkdir()
        for path in (*checkpoint.glob("*.json"), *(scratch / "exported").rglob("*.onnx")):
            (folder / path.name).write_bytes(path.read_bytes())
        if not (folder / "model.onnx").is_file():
            raise FileNotFoundError("it needs the graph that sentence-transformers exports")
        name = "sentence-transformers/all-MiniLM-L6-v2"
        model = TextEmbedding(name, specific_model_path=str(folder), threads=threads)
    except Exception as error:  # each of its libraries has its own
        peers.missing[FASTEMBED] = f"{type(error).__name__}: {str(error)[:200]}"
        return
    peers.encode[FASTEMBED] = lambda texts: list(model.embed(list(texts), batch_size=len(texts)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.encoder", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="of each engine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="of all in turn (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=128, help="read in each round (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
