"""A real tritonserver on this machine, without a container: from the wheel ``nvidia-pytriton``, which carries one.

It lives in an environment of its own (its numpy is older than ours): ``TRITON_VENV``, or ``.triton-venv`` in this folder,
made by ``make triton-venv``. The wheel holds the python backend and no other; that backend starts a stub for the environment's
Python, which has to lie beside it, and finds the environment by the ``python3`` on ``PATH``.

Units: seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
MISSING = "no tritonserver here: `make triton-venv`, or set TRITON_VENV to an environment with nvidia-pytriton and onnxruntime"
START_S = 60.0


def triton_venv() -> Path | None:
    """The environment with the wheel; None where there is none."""
    for place in (os.environ.get("TRITON_VENV"), ROOT / ".triton-venv"):
        if place and _home(Path(place)) is not None:
            return Path(place)
    return None


class RealTriton:
    """One server, from ``start`` to ``stop``.

    Args:
        repository: its models.
        flags: further ones of tritonserver's.
        environment: further variables, for its models.
        port: of HTTP; gRPC and metrics are the next two; 0: three free ones.

    Attributes:
        http, grpc: where it listens, as HOST:PORT.
        process: its own.

    Raises:
        RuntimeError: there is none here.
    """

    def __init__(
        self,
        repository: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        log: Path | None = None,
    ) -> None:
        venv = triton_venv()
        home = None if venv is None else _home(venv)
        if venv is None or home is None:
            raise RuntimeError(MISSING)
        _put_stub(venv, home)
        self._port = port or _free_ports()
        self.http, self.grpc = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._port + 1}"
        self._command = [
            str(home / "bin" / "tritonserver"),
            *("--model-repository", str(repository), "--backend-directory", str(home / "backends")),
            *("--cache-directory", str(home / "caches"), "--exit-timeout-secs", "5", "--log-warning", "1"),
            *("--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--allow-metrics", "0"),
            *("--http-port", str(self._port), "--grpc-port", str(self._port + 1)),
            *flags,
        ]
        self._environment = {
            **os.environ,
            "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it; with ``wait``, until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        with open(self._log or os.devnull, "ab") as out:
            # A group of its own: its stubs are its children and go with it.
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=out, stderr=out, process_group=0
            )
        began_s = time.monotonic()
        while wait and not self.ready():
            if self.process.poll() is not None or time.monotonic() - began_s > START_S:
                self.kill()
                raise RuntimeError(f"tritonserver is not ready; its log: {self._log}")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """End it and its stubs at once, as a crash would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for sent in (number, signal.SIGKILL):
            try:
                os.killpg(process.pid, sent)
            except ProcessLookupError:
                break
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                continue
        process.wait(5)


def run_until_exit(repository: Path, *flags: str, limit_s: float = 60.0) -> str:
    """Let a server look at a repository and end; what it says about the models.

    Without ``--exit-on-error false`` a server that cannot load a model ends by itself.
    """
    server = RealTriton(repository, *flags)
    ended = subprocess.run(
        server._command,
        env=server._environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    return ended.stdout.decode(errors="replace")


def _home(venv: Path) -> Path | None:
    found = sorted(venv.glob("lib/python3*/site-packages/pytriton/tritonserver"))
    return found[-1] if found else None


def _put_stub(venv: Path, home: Path) -> None:
    version = home.parent.parent.parent.name.removeprefix("python")
    source = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    target = home / "backends" / "python" / source.name
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        aside = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(source, aside)
        aside.chmod(0o755)
        aside.rename(target)


def _free_ports() -> int:
    """The first of three free ports in a row."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if port < 65_000 and all(_is_free(port + more) for more in (1, 2)):
            return port
    raise RuntimeError("no three free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def make_venv(flags: Sequence[str] = ()) -> None:
    """Make ``.triton-venv``, for ``make triton-venv``."""
    place = ROOT / ".triton-venv"
    subprocess.run(["python3", "-m", "venv", str(place)], check=True)
    packages = ["nvidia-pytriton==0.7.0", "onnxruntime>=1.23,<2", "tokenizers>=0.22,<1"]
    subprocess.run([str(place / "bin" / "pip"), "install", "-q", *flags, *packages], check=True)


if __name__ == "__main__":
    make_venv()
