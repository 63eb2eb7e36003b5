"""A model of Triton's python backend: writes texts with the ONNX decoder of this folder, one text at a time.

This file is copied beside the graph as ``model.py`` and is run by Triton, in an environment that has numpy, onnxruntime and
tokenizers and nothing of ours. ``text_input`` and ``sampling_parameters`` (JSON) come in, ``text_output`` goes out: whole, or in
pieces where ``stream`` is true. It is the plain way: no batch of several texts, no shared prefixes; a fleet that writes much
runs TensorRT-LLM or vLLM, or our own server, whose batches are continuous.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

CAPACITY_STEP = 256  # the cache of a text is as long as it may become, rounded up to this


class TritonPythonModel:
    """See the module; Triton calls each method from one thread."""

    def initialize(self, args):
        """Open graph and tokenizer."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        folder = os.path.join(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("threads", "1"))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            os.path.join(folder, parameters["graph"]), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self._ends = {int(token) for token in parameters["eos_ids"].split(",") if token}
        self._max_context = int(parameters["max_context"])
        self._max_chunk = int(parameters["max_chunk"])
        self._pasts = [one for one in self._session.get_inputs() if one.name.startswith("past.")]
        self._outputs = [one.name for one in self._session.get_outputs()]

    def execute(self, requests):
        """One text after the other; what goes wrong with one is its own error."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                for piece in self._pieces(request):
                    tensor = pb_utils.Tensor("text_output", np.array([piece.encode()], dtype=object))
                    sender.send(pb_utils.InferenceResponse([tensor]))
            except Exception as error:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def _pieces(self, request):
        prompt = _first(request, "text_input").decode()
        raw = _first(request, "sampling_parameters")
        asked = json.loads(raw) if raw else {}
        stream = bool(_first(request, "stream"))
        most = int(asked.get("max_tokens", 128))
        choose = _Chooser(float(asked.get("temperature", 1.0)), asked.get("seed"))
        ids = self._tokenizer.encode(prompt).ids
        if not ids or len(ids) + most > self._max_context:
            raise ValueError(
                f"the prompt has {len(ids)} tokens and max_tokens is {most}; together they may be {self._max_context}"
            )
        written, told = [], ""
        for token in self._tokens(ids, most, choose):
            if token in self._ends or request.is_cancelled():
                break
            written.append(token)
            if stream:
                text = self._tokenizer.decode(written)
                if not text.endswith("\ufffd") and len(text) > len(told):  # else a character is half there
                    yield text[len(told) :]
                    told = text
        text = self._tokenizer.decode(written)
        if not stream or len(text) > len(told):
            yield text[len(told) :] if stream else text

    def _tokens(self, ids, most, choose):
        capacity = -(-(len(ids) + most) // CAPACITY_STEP) * CAPACITY_STEP
        cache = {
            one.name: np.zeros((1, one.shape[1], capacity, one.shape[3]), np.float32) for one in self._pasts
        }
        at = 0
        chunk = ids
        while most:
            logits = None
            for start in range(0, len(chunk), self._max_chunk):
                part = chunk[start : start + self._max_chunk]
                logits = self._step(part, at, cache)
                at += len(part)
            token = choose(logits)
            yield token
            chunk, most = [token], most - 1

    def _step(self, ids, at, cache):
        feed = {
            "input_ids": np.array([ids], np.int64),
            "write_index": np.array([at], np.int64),
            "n_new": np.array([len(ids)], np.int64),
            **cache,
        }
        results = dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        for name in cache:
            cache[name] = results[name.replace("past.", "present.")]
        return results["logits"][0]


class _Chooser:
    """The next token: the best one, or drawn at a temperature."""

    def __init__(self, temperature, seed):
        self._temperature = temperature
        self._random = np.random.default_rng(seed)

    def __call__(self, logits):
        if self._temperature <= 0.0:
            return int(np.argmax(logits))
        scaled = logits.astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max())
        return int(self._random.choice(len(weights), p=weights / weights.sum()))


def _first(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().ravel()[0]
