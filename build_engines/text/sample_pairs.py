"""Generated copy of the sample shop as pairs, for recipes that have no shop of their own."""

from __future__ import annotations

import numpy as np

from build_engines.data.copy_corpus import make_examples
from build_engines.data.sample_catalogue import make_products
from build_engines.text.pairs import TextPair
from build_engines.text.recipe_parts import SampleCopyPart
from server.pipelines.product_copy.prompt import CHAT_RULES, copy_prompt, copy_target


def sample_pairs(part: SampleCopyPart, *, chat: bool) -> list[TextPair]:
    """Pairs in a random order, the same for the same part; ``chat``: ask as conversations."""
    rows = make_products(np.random.default_rng([part.shop_seed, 1]), part.num_products).records
    pairs = []
    for example in make_examples(
        rows[:: part.every], seed=part.seed, rounds=part.rounds, renamed_share=part.renamed_share
    ):
        prompt = copy_prompt(example.request)
        asked = (("system", CHAT_RULES), ("user", prompt))
        answer = copy_target(example.text)
        pairs.append(TextPair(prompt=asked if chat else prompt, answer=answer, group=example.item_id))
    return pairs
