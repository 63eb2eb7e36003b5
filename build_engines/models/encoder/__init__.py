"""Sentence encoders of the BERT family: from a checkpoint in Hugging Face form to one ONNX graph, and the engines made of it."""
