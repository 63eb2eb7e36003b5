"""``python -m server``: flags, the environment read once, and a run until a signal.

Exit status: 0 after a drain, 1 when a second signal cut it short, 2 when the server cannot start as it was told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from server.settings import Settings, describe

FLAGS: tuple[tuple[str, str, type], ...] = (
    ("--repository", "repository", Path),
    ("--model", "model", str),
    ("--engine", "engine", str),
    ("--host", "host", str),
    ("--http-port", "http_port", int),
    ("--grpc-port", "grpc_port", int),
    ("--metrics-port", "metrics_port", int),
    ("--max-in-flight", "max_in_flight", int),
    ("--default-deadline-ms", "default_deadline_ms", float),
    ("--drain-s", "drain_s", float),
    ("--log-level", "log_level", str),
)
PROCESS_START_S = time.perf_counter()


def parser() -> argparse.ArgumentParser:
    """The command line; every setting is in its epilog."""
    out = argparse.ArgumentParser(
        prog="python -m server",
        description="Serve the recommenders and text models of a model repository over HTTP, gRPC and a metrics port.",
        epilog=describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, name, kind in FLAGS:
        about = Settings.__dataclass_fields__[name].metadata["about"]
        out.add_argument(flag, dest=name, type=kind, default=None, help=about.replace("%", "%%"))
    out.add_argument("--no-grpc", dest="grpc", action="store_false", default=None, help="do not serve gRPC")
    out.add_argument(
        "--no-metrics", dest="metrics", action="store_false", default=None, help="do not measure"
    )
    out.add_argument(
        "--no-fallback", dest="fallback", action="store_false", default=None, help="errors, no fallback tier"
    )
    return out


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run until a signal."""
    args = vars(parser().parse_args(argv))
    overrides: dict[str, Any] = {name: value for name, value in args.items() if value is not None}
    try:
        settings = Settings.from_env(os.environ if env is None else env, **overrides)
    except ValueError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    from server.logs import configure
    from server.pipelines.customer_service.masking import guard

    configure(settings.log_level, guard)
    import uvloop

    try:
        return uvloop.run(_run(settings))
    except KeyboardInterrupt:
        return 1


async def _run(settings: Settings) -> int:
    from server.app import Application
    from server.artifacts.errors import ArtifactError
    from server.errors import ServeError

    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            print("second signal: exit now", file=sys.stderr, flush=True)
            os._exit(1)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        app = Application(settings)
        await app.start()
    except (ArtifactError, ServeError, OSError, ValueError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    print(_welcome(app), flush=True)
    await app.warm()
    await told.wait()
    print("draining; a second signal exits now", flush=True)
    await app.stop()
    return 0


def _welcome(app: Any) -> str:
    settings = app.settings
    scheme = "https" if settings.tls_cert else "http"
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    host = f"[{host}]" if ":" in host else host
    base = f"{scheme}://{host}:{app.http_port}"
    key = " -H 'authorization: Bearer KEY'" if settings.api_keys else ""
    lines = [
        f"ready in {time.perf_counter() - PROCESS_START_S:.2f} s",
        *(f"  model    {_described(info)}" for info in app.service.models()),
        f"  HTTP     {base}   documentation at {base}/docs",
    ]
    if app.grpc_port is not None:
        services = (
            ["Recommendations"] + ["ProductCopy"] * settings.copy + ["CustomerService"] * settings.support
        )
        named = ", ".join(f"vitrine.v1.{name}" for name in services)
        lines.append(f"  gRPC     {host}:{app.grpc_port}   {named}, health, reflection")
    lines.append(f"  metrics  {scheme}://{host}:{app.metrics_port}/metrics")
    lines += [f"try: curl -s {base}{path}{key} -d '{body}'" for path, body in _examples(app)]
    return "\n".join(lines)


def _described(info: Any) -> str:
    from server.encoder_domain import ENCODER_TASK

    longest = info.limits.get("max_context") or info.limits.get("max_tokens") or 0
    if not info.version:
        return f"{info.name}: sentence encoder, being loaded"
    if info.task == ENCODER_TASK:
        size = f"vectors of {info.limits['dim']} of texts of up to {longest:,} tokens"
    elif "max_candidates" in info.limits and not info.items:
        size = f"ranks up to {info.limits['max_candidates']:,} recommendations again"
    else:
        size = f"{info.items:,} items" if info.items else f"texts of up to {longest:,} tokens"
    return f"{info.name} version {info.version}: {size}, {info.engine}, {info.precision}"


def _examples(app: Any) -> Iterator[tuple[str, str]]:
    from server.encoder_domain import ENCODER_TASK

    for info in app.service.models():
        if info.items:
            yield "/v1/recommendations", json.dumps({"history": list(info.sample_ids[:2]), "k": 5})
        elif info.task == ENCODER_TASK:
            yield "/v1/embeddings", json.dumps({"input": "Where is my order?"})
        else:
            message = {"role": "user", "content": "A mug of white porcelain, 350 ml."}
            yield (
                "/v1/chat/completions",
                json.dumps({"model": info.name, "messages": [message], "max_tokens": 64}),
            )


if __name__ == "__main__":
    sys.exit(main())
