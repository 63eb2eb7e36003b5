"""The demonstration model of product copy: corpus, tokenizer and weights from seeds, saved as a Hugging Face folder.

``python -m build_engines train-demo`` makes what ``build_engines/demo_models/demo-copy`` holds. It is trained on generated
copy of a generated shop, to show the line and the server at work; it is no model for a real shop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from build_engines.data.copy_corpus import CORPUS_VERSION, CopyExample, make_examples
from build_engines.data.sample_catalogue import make_products
from build_engines.models.demo_lm import DemoSizes, new_model, save_demo
from build_engines.progress import Progress
from build_engines.text.pairs import EncodedPair, TextPair, encode_pairs
from build_engines.text.tokenizer import END_OF_TEXT, PADDING, save_tokenizer, train_tokenizer
from build_engines.text.tuning import tune
from build_engines.text.tuning_parts import TuningConfig
from build_engines.tuning_loop import LossPoint, TuningResult
from server.pipelines.product_copy.prompt import PROMPT_VERSION, copy_prompt, copy_target

HISTORY_FILE = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """Everything that the demonstration model depends on.

    Attributes:
        shop_seed, num_products: of the sample shop.
        corpus_seed: of its copy.
        rounds: examples a product and language.
        renamed_share: of them, told under other names and numbers.
        heldout_every: of products, one in so many is held out.
        vocab_size: tokens.
        training: how it learns.
    """

    shop_seed: int = 7
    num_products: int = 3000
    corpus_seed: int = 1
    rounds: int = 5
    renamed_share: float = 0.75
    heldout_every: int = 40
    vocab_size: int = 3072
    training: TuningConfig = field(
        default_factory=lambda: TuningConfig(
            method="full",
            optimizer="muon",
            epochs=1,
            batch_tokens=3072,
            learning_rate=4e-3,
            weight_decay=0.1,
            warmup_share=0.02,
            evaluate_every=200,
            checkpoint_every=50,
            patience=20,
        )
    )


def demo_pairs(plan: DemoPlan) -> tuple[list[TextPair], list[TextPair]]:
    """Pairs to learn from, and pairs about products that none of them is about."""
    rows = make_products(np.random.default_rng([plan.shop_seed, 1]), plan.num_products).records
    heldout_ids = {row["item_id"] for row in rows[:: plan.heldout_every]}
    kept: list[TextPair] = []
    heldout: list[TextPair] = []
    for example in make_examples(
        rows, seed=plan.corpus_seed, rounds=plan.rounds, renamed_share=plan.renamed_share
    ):
        side = heldout if example.item_id in heldout_ids else kept
        side.append(pair_of(example))
    return kept, heldout


def pair_of(example: CopyExample) -> TextPair:
    """An example of the corpus as the model sees it."""
    return TextPair(
        prompt=copy_prompt(example.request), answer=copy_target(example.text), group=example.item_id
    )


def train_demo(
    plan: DemoPlan, folder: Path, progress: Progress, *, scratch: Path, sizes: DemoSizes | None = None
) -> TuningResult:
    """Train the model and write its folder; killed, it goes on from ``scratch`` when it is run again.

    Args:
        plan: what to make.
        folder: where to; files in it are replaced at the end.
        progress: what the person sees.
        scratch: for the checkpoint; its content is removed at the end.
        sizes: of the model; None: the demonstration's own at ``plan.vocab_size``.

    Raises:
        TuningDiverged: the loss is no number any more.
    """
    began = time.monotonic()
    pairs, heldout = demo_pairs(plan)
    tokenizer = train_tokenizer(
        (str(text) for pair in pairs for text in (pair.prompt, pair.answer)), vocab_size=plan.vocab_size
    )
    sizes = replace(sizes or DemoSizes(vocab_size=plan.vocab_size), vocab_size=tokenizer.get_vocab_size())
    ids = tokenizer.get_vocab()
    eos_id = ids[END_OF_TEXT]
    model = new_model(sizes, seed=plan.training.seed, eos_id=eos_id, pad_id=ids[PADDING])
    encoded, judged = (_encoded(side, tokenizer, eos_id, sizes) for side in (pairs, heldout))
    parameters = sum(one.numel() for one in model.parameters())
    progress.say(f"{len(encoded)} pairs, {len(judged)} held out, {parameters / 1e6:.2f} million parameters")
    checkpoint = scratch / "demo.pt"

    def report(step: int, steps: int, point: LossPoint | None) -> None:
        if point is not None:
            progress.say(
                f"  step {step}: loss {point.loss:.4f}, held out {point.heldout_loss:.4f}, {point.seconds:.0f} s"
            )
        progress.step("training, step", step, steps)

    result = tune(model, plan.training, encoded, judged, checkpoint=checkpoint, progress=report)
    save_folder(model, tokenizer, folder, sizes)
    history = {
        "made_by": "python -m build_engines train-demo",
        "plan": asdict(plan),
        "sizes": asdict(sizes),
        "parameters": parameters,
        "pairs": len(encoded),
        "heldout_pairs": len(judged),
        "corpus_version": CORPUS_VERSION,
        "prompt_version": PROMPT_VERSION,
        "tokens": result.tokens,
        "seconds": round(time.monotonic() - began),
        "curve": [asdict(point) for point in result.curve],
    }
    text = json.dumps(history, indent=1, ensure_ascii=False)
    (folder / HISTORY_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")
    checkpoint.unlink(missing_ok=True)
    return result


def save_folder(model: nn.Module, tokenizer: Tokenizer, folder: Path, sizes: DemoSizes) -> None:
    """The model and its tokenizer as one Hugging Face folder."""
    save_demo(model, folder)
    save_tokenizer(tokenizer, folder, max_context=sizes.max_context)


def _encoded(
    pairs: Sequence[TextPair], tokenizer: Tokenizer, eos_id: int, sizes: DemoSizes
) -> list[EncodedPair]:
    def encode(text: object) -> list[int]:
        return list(tokenizer.encode(str(text)).ids)

    found = encode_pairs(pairs, encode, encode, eos_id=eos_id, max_tokens=sizes.max_context)
    return [one for one in found if one is not None]
