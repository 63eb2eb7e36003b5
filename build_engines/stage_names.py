"""The stages' names in their order: for the command line, which must not wait for anything else."""

STAGES = ("load", "train", "compress", "quantize", "export", "compile", "verify", "publish")
TEXT_STAGES = ("text-load", "finetune", "text-compress", "package", "text-verify", "publish")
ENCODER_STAGES = (
    "encoder-load",
    "encoder-compress",
    "intents",
    "encoder-package",
    "encoder-verify",
    "publish",
)
OWN_STAGES = ("own-load", "own-quantize", "own-compile", "own-verify", "publish")
RERANK_STAGES = (
    "load",
    "rerank-candidates",
    "rerank-train",
    "rerank-quantize",
    "rerank-compile",
    "rerank-verify",
    "publish",
)
