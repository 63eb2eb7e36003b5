"""``python -m bench``: build the benchmark's engines if they are not there, measure, write Markdown and JSON.

Each figure is compared within the run (FP32 beside INT8, gRPC beside HTTP, metrics on beside off), because the machine's
speed drifts. What else the machine did meanwhile is in the report as ``foreign_cores``: over 0.25, run it again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import engine, quality, serving, support_parts
from bench.report import markdown
from server.artifacts.repository import CURRENT_FILE

RECIPE = "build_engines/recipes/bench_50k.toml"
MODELS = {"fp32": "bench-50k-fp32", "int8": "bench-50k-int8"}
GATE_REFUSED = 4  # exit code of the builder; on a busy machine a speed-up may be undecidable
PARTS = (
    "quality",
    "copy",
    "sampling",
    "text_engine",
    "engine",
    "serving",
    "overload",
    "grpc",
    "metrics",
    "start",
    *support_parts.PARTS,
    "support_speed",
)
ALONE = {
    "quality",
    "copy",
    "sampling",
    "text_engine",
    *support_parts.PARTS,
    "support_speed",
}  # that need no recommender of the benchmark


def main() -> int:
    """Measure what was asked for."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": serving.machine(), "began": time.strftime("%Y-%m-%d %H:%M:%S")}
    wanted = args.only or PARTS
    if "quality" in wanted:
        _say(
            "quality: sample shop"
            + (", Beauty" if args.beauty else " (give --beauty FOLDER for the public log)")
        )
        results["quality"] = quality.measure(args.repository, args.beauty)
    if "copy" in wanted:
        from bench import copy_perplexity, copy_quality

        _say("product copy: planted falsehoods, templates, and the text model if one is published")
        results["copy"] = copy_quality.measure(args.text_repository)
        results["copy"]["perplexity"] = copy_perplexity.measure(args.text_repository)
    if "sampling" in wanted:
        from bench import sampling

        _say("choosing tokens, 8 texts of 151,936")
        results["sampling"] = sampling.measure_all()
    if "text_engine" in wanted:
        from bench import text_engine

        _say("text engine alone, half a billion random weights (packaging takes minutes the first time)")
        results["text_engine"] = text_engine.run(args.out / "text", text_engine.VARIANTS.split(","))
    if args.peers:
        from bench import text_peers

        _say("text engine through its server, as other engines were measured")
        results["text_peers"] = text_peers.measure(args.out / "text")
    if args.intents:
        from bench import intents

        _say("intents on public sets: training, FP32 and INT8 (half an hour on 2 cores)")
        results["intents"] = intents.measure_sets(args.intents, args.out / "intents")
    if set(wanted) - ALONE:
        for precision, model in MODELS.items():
            _build(args.repository, precision, model)
    bodies = args.out / "bodies.jsonl"
    if set(wanted) & {"serving", "overload", "grpc", "metrics"}:
        serving.write_bodies(args.repository, MODELS["int8"], bodies)
    if "engine" in wanted:
        _say("engine alone, FP32 and INT8 in turn")
        results["engine"] = engine.measure(args.repository, MODELS)
    run = serving.Bench(args.repository, bodies, seconds=args.seconds, say=_say)
    if "start" in wanted:
        results["start"] = {name: run.start_up(model) for name, model in MODELS.items()}
    if "serving" in wanted:
        results["serving"] = {name: run.serving(model) for name, model in MODELS.items()}
    if "overload" in wanted:
        known = results.get("serving", {}).get("int8", {}).get("highest_rps_50ms")
        results["overload"] = run.overload(MODELS["int8"], known)
    if "grpc" in wanted:
        results["grpc"] = run.grpc(MODELS["int8"])
    if "metrics" in wanted:
        results["metrics"] = run.metrics_cost(MODELS["int8"])
    results |= support_parts.measure(wanted, args.text_repository, _say)
    if "support_speed" in wanted and not (args.text_repository / "sample-support" / CURRENT_FILE).exists():
        _say(
            f"customer service under load: left out, {args.text_repository} has no sample-support; run make build"
        )
    elif "support_speed" in wanted:
        from bench import support_speed

        _say(
            "customer service with 10,000 passages (filling its knowledge file takes minutes the first time)"
        )
        results["support_speed"] = support_speed.measure(args.text_repository, args.out / "support_speed")
    (args.out / "bench.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = markdown(results)
    (args.out / "bench.md").write_text(text, encoding="utf-8")
    print(text)
    _say(f"written: {args.out / 'bench.md'} and bench.json")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--repository", type=Path, default=Path("bench/results/model_repository"), help="default: %(default)s"
    )
    parser.add_argument(
        "--text-repository",
        type=Path,
        default=Path("model_repository"),
        help="of the text model and the sentence encoder (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="default: %(default)s")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; repeatable; default: all")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each timed run (default: %(default)s)")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="measure texts through the server as well, by the peers' workloads (minutes)",
    )
    parser.add_argument(
        "--beauty",
        type=Path,
        help="folder with Beauty.txt and Beauty_item2attributes.json: build and judge it as well",
    )
    parser.add_argument(
        "--intents",
        type=Path,
        help="folder with banking77/ and bitext/: learn and judge their intents as well",
    )
    return parser.parse_args()


def _build(repository: Path, precision: str, model: str) -> None:
    _say(f"engines of {model} (cached)")
    command = [sys.executable, "-m", "build_engines", "run", RECIPE, "--repository", str(repository)]
    command += ["--set", f"model.name={model}", "--set", f"quantize.precision={precision}"]
    ran = subprocess.run(command, check=False, stdout=sys.stderr)
    if ran.returncode == GATE_REFUSED and (repository / model / CURRENT_FILE).exists():
        _say(f"the gate refused a new build of {model}; measuring the version that was published before")
    elif ran.returncode:
        raise SystemExit(f"bench: {model} could not be built (exit {ran.returncode}); its last lines say why")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
