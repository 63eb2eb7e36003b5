"""Stage 2 of a text model: fine-tune the checkpoint where the recipe says so; else hand it on as it came.

The best weights by held-out loss are kept; LoRA is merged into them; the result is a checkpoint folder like the one that
came in, in the precision that it had. What was learnt is judged by the gate on pairs that this stage never sees.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from build_engines.errors import BuildError
from build_engines.stage import Work
from build_engines.text.checkpoint import CONFIG_FILE, TEXT_FILES
from build_engines.text.pair_arrays import load_pairs, pairs_path
from build_engines.text.quantized_linear import plain_base, quantize_base
from build_engines.text.records import FinetuneRecord, LossRow
from build_engines.text.states import TextLoaded
from build_engines.text.tuning import heldout_loss, tune
from build_engines.text.tuning_parts import TuningConfig
from build_engines.tuning_loop import LossPoint, TuningDiverged

FAMILIES = ("llama", "qwen2", "qwen3")
CHECKPOINT = "finetune.pt"


def run(loaded: TextLoaded, part: TuningConfig | None, work: Work) -> FinetuneRecord:
    """Fine-tune, or name the checkpoint.

    Raises:
        BuildError: the family or a module is not known, there is nothing to learn from, or the loss became NaN.
    """
    record = loaded.record
    if part is None:
        return FinetuneRecord(checkpoint=record.checkpoint, method="none", notes=("served as it came",))
    folder = loaded.output.folder
    pairs, heldout = (load_pairs(pairs_path(folder, side)) for side in ("train", "validation"))
    if not pairs or not heldout:
        raise BuildError(
            f"finetune: {len(pairs)} pairs to learn from and {len(heldout)} to choose by; give more pairs, or other "
            "shares in [split] (what gate, calibration and validation leave is learnt from)"
        )
    source = Path(record.checkpoint)
    model = load_model(source, record.family)
    dtype = _stored_dtype(source)
    notes: list[str] = []
    if part.method == "qlora":
        whole, small = quantize_base(model, part.qlora_base)
        notes.append(
            f"base in {part.qlora_base}: {small / 1e6:.1f} MB of weights in place of {whole / 1e6:.1f}"
        )
    tuned = model if part.method == "full" else _with_lora(model, part)
    moved = sum(one.numel() for one in tuned.parameters() if one.requires_grad)
    before = heldout_loss(tuned.to(part.device), heldout, part)
    work.progress.say(
        f"  {part.method}: {moved / 1e6:.2f} million weights move, {len(pairs)} pairs; held-out loss before {before:.4f}"
    )

    def report(step: int, steps: int, point: LossPoint | None) -> None:
        if point is not None:
            work.progress.say(f"  step {step}: loss {point.loss:.4f}, held out {point.heldout_loss:.4f}")
        work.progress.step("fine-tuning, step", step, steps)

    try:
        result = tune(tuned, part, pairs, heldout, checkpoint=work.scratch / CHECKPOINT, progress=report)
    except (ValueError, TuningDiverged) as error:
        raise BuildError(f"finetune: {error}") from error
    wrapped: Any = tuned
    if part.method == "qlora":
        plain_base(wrapped)
    merged = tuned if part.method == "full" else wrapped.merge_and_unload()
    save_checkpoint(merged, dtype, source, work.folder / "checkpoint")
    notes += [f"best at step {result.best.step} of {result.steps}, {result.tokens} tokens"]
    if result.best.heldout_loss >= before:
        notes.append("held-out loss did not fall: the checkpoint was as good before")
    return FinetuneRecord(
        checkpoint="",
        method=part.method,
        before=before,
        best=result.best.heldout_loss,
        curve=tuple(LossRow(**dataclasses.asdict(point)) for point in result.curve),
        trained_parameters=moved,
        seeds={"finetune": part.seed},
        notes=tuple(notes),
    )


def load_model(folder: Path, family: str) -> Any:
    """A checkpoint as a model of transformers, in float32.

    Raises:
        BuildError: the family is not one of ``FAMILIES``, or the files do not hold together.
    """
    if family not in FAMILIES:
        raise BuildError(f"{folder / CONFIG_FILE}: model_type is {family!r}; known are {', '.join(FAMILIES)}")
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BuildError(f"{folder}: cannot be loaded ({error}); fetch the checkpoint again") from error


def save_checkpoint(model: Any, dtype: torch.dtype, source: Path, folder: Path) -> None:
    """The model in Hugging Face form, with the texts of the folder that it came from."""
    model.to("cpu").to(dtype).save_pretrained(str(folder), safe_serialization=True)
    for name in TEXT_FILES:
        if name != CONFIG_FILE and (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _with_lora(model: nn.Module, part: TuningConfig) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    modules = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = [name for name in part.lora_targets if name not in modules]
    if unknown:
        linears = sorted(
            {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, nn.Linear)}
        )
        raise BuildError(
            f"finetune.lora_targets: the model has no {', '.join(unknown)}; it has {', '.join(linears)}"
        )
    config = LoraConfig(
        r=part.lora_rank,
        lora_alpha=part.lora_alpha,
        lora_dropout=part.lora_dropout,
        target_modules=list(part.lora_targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(part.seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _stored_dtype(folder: Path) -> torch.dtype:
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return stored if stored in (torch.float16, torch.bfloat16) else torch.float32
