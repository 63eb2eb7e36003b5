"""Bring your own model: a Python module or an ONNX file through the same quantize, gate and publish as our own."""
