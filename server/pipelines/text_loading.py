"""From an opened text version to what the continuous batcher serves: tokenizer, engine, sampler; warmed and replayed.

**The contract of a text version** (whoever publishes one keeps it; ``load_text_model`` refuses what does not):

* ``task``: ``"text_generation"`` (``text_domain.TEXT_TASK``).
* ``graph``: ``"model.onnx"``, in the signature of ENGINE_NOTES (``input_ids[B,T], write_index[B], n_new[B], past.i.k/v
  [B,H,S,D] -> logits[B,V], present.i.k/v``); ``inputs`` and ``outputs`` are ``TextPackage.inputs`` and ``.outputs``.
* ``files``: the graph, its weight files (any names), ``tokenizer.json``; and of ``tokenizer_config.json``,
  ``chat_template.jinja``, ``generation_config.json`` and ``config.json`` those that the checkpoint has, under these names
  at the top of the folder; and ``golden.npz``. All hashed by ``describe_folder``.
* ``limits``: ``max_context`` (prompt and answer together), ``vocab_size`` (width of the logits), ``max_chunk`` (prompt
  tokens of a row and call): ``TextPackage.limits`` as it is. ``schema.REQUIRED_LIMITS`` holds them.
* ``constants``: none. ``parameters``: none is needed; ``{}``.
* ``targets``: one of kind ``"onnxruntime"`` with file ``"model.onnx"``, entry "masked" (the default), its precision
  ("fp32", "int8", "int4"); TensorRT plans may stand behind it. ``cost`` is of a decode step of n texts.
* ``parity``: ``score_abs`` and ``score_rel`` are of log-probabilities, ``min_overlap`` is the share of golden tokens that
  must hold. For "fp32" 1e-2 absolute and 1.0 is what other CPUs keep; quantized matrices round activations otherwise where
  the CPU has other dot products, 0.25 and 0.9 are kept.
* ``golden.npz``: ``text_golden.record_golden(engine, prompts, tokens=..., eos_ids=...)`` on the packaged engine, written by
  ``artifacts.golden.write_golden``. 4 to 8 prompts of 16 or 32 tokens each replay in well under a second.
* ``evidence``: perplexity against the parent and whatever else was gated; ``figures``: for lists ("perplexity",
  "parameters", "size_bytes"); ``flags``: ``"demonstration"`` where a reader must know that the model is one.

Runs in a worker thread while the old version serves; nothing here touches the event loop.

Units: tokens; bytes.
"""
