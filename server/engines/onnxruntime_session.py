"""A session of ONNX Runtime on the CPU, as every engine opens it: its own threads, quiet, and a refusal that names the file."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort


def session_options(threads: int, *, spin: bool = False) -> ort.SessionOptions:
    """Options of a session.

    Args:
        threads: intra-op threads.
        spin: whether idle ones spin.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return options


def open_session(path: Path, options: ort.SessionOptions, *, mapped: bool = True) -> ort.InferenceSession:
    """Open a graph.

    Args:
        path: the file.
        options: of the session.
        mapped: open it by path, so that weights beside it are mapped into memory; else its bytes are given.

    Raises:
        RuntimeError: the runtime refuses it; names the file.
    """
    try:
        graph = str(path) if mapped else path.read_bytes()
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class per status, none with a common base
        raise RuntimeError(f"{path}: ONNX Runtime {ort.__version__} refuses the graph: {error}") from error
