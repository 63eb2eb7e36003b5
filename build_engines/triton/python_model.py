"""A model of Triton's python backend: runs the ONNX graph of this folder, one run for all requests that Triton hands over.

This file is copied beside the graph as ``model.py`` and is run by Triton, in an environment that has numpy and onnxruntime and
nothing of ours. It is for servers without the ONNX Runtime backend, and for the tests; where that backend is there, it is the
better choice (``package --backend onnxruntime``).

Requests of different widths (histories, exclusions, tokens) go together: the graph reads padding as nothing. Which side it
goes to, and what a missing input is, stands in the parameters of ``config.pbtxt``.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """See the module; Triton calls each method from one thread."""

    def initialize(self, args):
        """Open the graph; what ``config.pbtxt`` says of it comes in ``args``."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("threads", "1"))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = os.path.join(args["model_repository"], args["model_version"])
        self._session = ort.InferenceSession(
            os.path.join(folder, parameters["graph"]), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [one["name"] for one in config["output"]]
        self._inputs = [one["name"] for one in config["input"]]
        self._left = set(filter(None, parameters.get("pad_left", "").split(",")))
        self._flat = set(filter(None, parameters.get("flat", "").split(",")))

    def execute(self, requests):
        """One run; a request that cannot be part of it has an error of its own."""
        try:
            return self._together(requests)
        except Exception as error:
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]
        answers = []
        for request in requests:  # one of them is wrong: the others have done nothing
            try:
                answers += self._together([request])
            except Exception as error:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        return answers

    def _together(self, requests):
        feed, rows = {}, None
        for name in self._inputs:
            arrays = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            rows = [len(array) for array in arrays]
            feed[name] = self._joined(name, arrays)
        results = self._session.run(self._outputs, feed)
        answers, at = [], 0
        for count in rows:
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(result[at : at + count]))
                for name, result in zip(self._outputs, results, strict=True)
            ]
            answers.append(pb_utils.InferenceResponse(tensors))
            at += count
        return answers

    def _joined(self, name, arrays):
        if name in self._flat:
            return np.concatenate([array.reshape(-1) for array in arrays])
        if len({array.shape[1:] for array in arrays}) == 1:
            return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
        width = max(array.shape[1] for array in arrays)
        joined = np.zeros((sum(map(len, arrays)), width), arrays[0].dtype)
        at = 0
        for array in arrays:
            rows, columns = array.shape
            place = slice(width - columns, width) if name in self._left else slice(0, columns)
            joined[at : at + rows, place] = array
            at += rows
        return joined
