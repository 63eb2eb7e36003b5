"""From an opened encoder version to what the token batcher serves: tokenizer, engine, intents; warmed and replayed.

**The contract of an encoder version** (whoever publishes one keeps it; ``load_encoder`` refuses what does not):

* ``task``: ``"sentence_encoding"`` (``encoder_domain.ENCODER_TASK``).
* ``graph``: ``"model.onnx"``: inputs ``input_ids[B,T]`` and ``lengths[B]``, both int64 (padded on the right with anything that
  is a token, each length at least 1; mask and positions are made in the graph); outputs ``embedding[B,D]`` float32 (pooled, and
  of length 1 where ``normalize`` says so) and, where the version has an intent head, ``logits[B,C]`` float32, not yet divided
  by the temperature.
* ``files``: the graph (weights inside it, or beside it in ``model.weights``), ``tokenizer.json``, ``encoder.json``,
  ``golden.npz``, and ``intents.json`` exactly where there are ``logits``. ``config.json`` and ``tokenizer_config.json`` are
  there for people, and are not read.
* ``tokenizer.json`` may pad and truncate; the server switches both off. It adds the special tokens of one text itself.
* ``encoder.json``: ``{"pooling": "mean" | "cls", "normalize": true, "dim": D, "dims": [D, ...], "max_tokens": n, "prefixes":
  {"query": "", "passage": "", "plain": ""}}``. ``dims`` are the widths that may be asked for, widest first (Matryoshka: the
  first values of a vector, made of length 1 again); one alone: the vector cannot be cut. ``max_tokens`` counts special
  tokens. A prefix stands before the text, its blank with it.
* ``intents.json``: ``{"labels": [C names], "temperature": t, "threshold": p}`` as ``build_engines.intents.head`` says.
* ``limits``: ``max_tokens`` (as above), ``vocab_size`` (ids below it), ``dim`` (D). ``constants``: none. ``parameters``: ``{}``.
* ``targets``: one of kind ``"onnxruntime"`` with file ``"model.onnx"``, its precision ("fp32", "int8"); TensorRT plans may
  stand behind it. ``cost`` is of a batch of n texts of ``cost_tokens`` tokens (a figure of ``figures``).
* ``golden.npz`` (``artifacts.golden``): ``input_ids`` and ``lengths`` of 8 texts or so of different lengths, and the outputs that
  they gave. Each vector must have a cosine of at least ``parity.min_overlap`` with the recorded one, each logit may differ by
  ``parity.score_abs``.
* ``figures``: ``"cosine_fp32"`` (mean, to the FP32 parent), ``"parameters"``, ``"size_bytes"``, ``"cost_tokens"``;
  ``flags``: ``"trained_small"`` where the encoder was trained by the builder and is no pretrained one.

Units: tokens; bytes.
"""
