"""What each number and list of a recipe may be: one table, checked while a recipe is read, before any stage runs.

A wrong value that is found late costs a person the stages before it, so every numeric and list field of every section
stands here (a test holds the table complete). What values say of each other is the sections' own ``__post_init__``.

Upper bounds are not promises that it fits into memory: they are where a value is a typing error. Units: of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from build_engines.compression.mixed_parts import MixedPart
from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.sample_shop import SampleShopSize
from build_engines.data.splits import SplitRule
from build_engines.encoder.recipe_parts import (
    EncoderGatePart,
    FormPart,
    PackageEncoderPart,
    TextsPart,
)
from build_engines.encoder.small_parts import TrainedSmallPart
from build_engines.intents.linear_parts import LinearConfig
from build_engines.intents.recipe_parts import IntentsPart, IntentTuning, SampleIntentsPart, ThresholdPart
from build_engines.intents.split import SplitShares
from build_engines.models.causal.options import BLOCKS
from build_engines.models.mix import MixGrid
from build_engines.models.transitions import TransitionConfig
from build_engines.own_model.recipe_parts import OwnGatePart, OwnQuantizePart, ServePart
from build_engines.proof.fairness_part import FairnessPart
from build_engines.recipe_parts import (
    CompilePart,
    DataPart,
    ExportPart,
    GatePart,
    NetworkPart,
    PqPart,
    PublishPart,
    QuantizePart,
    TrainPart,
)
from build_engines.rerank.recipe_parts import (
    FeaturesPart,
    FirstStagePart,
    RerankGatePart,
    RerankNetworkPart,
    RerankTrainPart,
)
from build_engines.text.recipe_parts import (
    PackagePart,
    SampleCopyPart,
    TextDataPart,
    TextGatePart,
    TextSplitPart,
)
from build_engines.text.tuning_parts import TuningConfig

MOST_ENTRIES = 64  # of a list


@dataclass(frozen=True, slots=True)
class Limit:
    """A finite number in a range; of a list, each entry, of which there must be one or more.

    Attributes:
        low: smallest.
        high: largest.
        above: ``low`` itself is too small.
        below: ``high`` itself is too large.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def fault(self, value: object) -> str | None:
        """What is wrong with a value, as the end of a sentence that begins with its name; None: nothing."""
        if isinstance(value, list | tuple):
            if not 1 <= len(value) <= MOST_ENTRIES:
                shown = "empty" if not value else f"a list of {len(value)}"
                return f"is {shown}; give 1 to {MOST_ENTRIES} numbers, each {self}"
            wrong = next((one for one in value if not self._holds(one)), None)
            return None if wrong is None else f"has {wrong!r}; use {self} for each"
        return None if self._holds(value) else f"is {value!r}; use {self}"

    def __str__(self) -> str:
        """The range, for people."""
        low = f"more than {_number(self.low)}, " if self.above else f"{_number(self.low)} "
        return f"{low}{'to below' if self.below else 'to'} {_number(self.high)}"

    def _holds(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return True  # None, where a field may be left out
        if not self.low <= value <= self.high:  # neither does a NaN hold
            return False
        return not (self.above and value == self.low) and not (self.below and value == self.high)


@dataclass(frozen=True, slots=True)
class Filled:
    """A list of words that must not be empty."""

    def fault(self, value: object) -> str | None:
        """As ``Limit.fault``."""
        if isinstance(value, list | tuple) and not 1 <= len(value) <= MOST_ENTRIES:
            return f"is {'empty' if not value else f'a list of {len(value)}'}; give 1 to {MOST_ENTRIES} words"
        return None


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


SEED = Limit(0, 2**32 - 1)  # what every generator of random numbers takes
SHARE = Limit(0.0, 1.0)
PART = Limit(0.0, 1.0, below=True)
FACTOR = Limit(0.0, 1.0, above=True)
RATE = Limit(0.0, 10.0, above=True)
DECAY = Limit(0.0, 10.0)
MORE_THAN_NONE = Limit(0.0, 1e6, above=True)
ROUNDS, COUNT, COUNT_OR_0 = Limit(10, 100_000), Limit(1, 10**9), Limit(0, 10**9)
EPOCHS = Limit(1, 100_000)
BATCH = Limit(1, 4096)
PRODUCTS = Limit(60, 10**6)  # one of each kind at least
PAIRS = Limit(1, 10**6)
TOKENS = 2**20

BUCKETS = Limit(1, 1 << 22)
OWN_GATE: Mapping[str, Limit | Filled] = {
    "max_metric_loss": SHARE,
    "max_source_error": MORE_THAN_NONE,
    "max_error": MORE_THAN_NONE,
    "max_disagreement": SHARE,
    "batch_sizes": BATCH,
    "min_speedup": MORE_THAN_NONE,
    "max_size_ratio": MORE_THAN_NONE,
    "rounds": ROUNDS,
    "seed": SEED,
}

LIMITS: Mapping[type, Mapping[str, Limit | Filled]] = {
    SampleShopSize: {"seed": SEED, "num_products": PRODUCTS, "num_users": Limit(1, 10**8)},
    BadRowPolicy: {"max_bad_share": SHARE},
    DataPart: {"max_unlisted_share": SHARE},
    SplitRule: {
        "calibration_share": Limit(0.0, 0.5),
        "max_calibration_users": COUNT,
        "time_shares": Limit(0.0, 1.0, above=True, below=True),
    },
    NetworkPart: {
        "dim": Limit(1, 4096),
        "blocks": Limit(1, 64),
        "heads": Limit(1, 256),
        "length": Limit(1, 4096),
        "dropout": PART,
        "tau": Limit(0.001, 100.0),
        "ffn_multiplier": Limit(0.0, 64.0, above=True),
        "head_dim": Limit(1, 4096),
        "inner": Limit(1, 65_536),
    },
    TrainPart: {
        "epochs": EPOCHS,
        "batch_size": Limit(1, 65_536),
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "warmup_steps": COUNT_OR_0,
        "future": Limit(1, 4096),
        "future_decay": FACTOR,
        "patience": EPOCHS,
        "validate_every": EPOCHS,
        "seed": SEED,
    },
    TransitionConfig: {
        "window": Limit(1, 4096),
        "decay": FACTOR,
        "backward": SHARE,
        "normalise": SHARE,
        "top_m": Limit(1, 1024),
        "half_life_s": Limit(0.0, 1e12, above=True),
    },
    MixGrid: {"gammas": Limit(0.0, 1e6), "kappas": MORE_THAN_NONE, "windows": Limit(1, 50), "decays": FACTOR},
    PqPart: {
        "subspaces": Limit(1, 4096),
        "codes": Limit(2, 256),
        "rounds": Limit(1, 1000),
        "tune_steps": Limit(0, 1_000_000),
        "queries": PAIRS,
    },
    QuantizePart: {
        "neighbours": Limit(0, 1024),
        "percentile": Limit(50.0, 100.0),
        "mixed_budget": MORE_THAN_NONE,
        "samples": PAIRS,
        "seed": SEED,
    },
    ExportPart: {"max_k": Limit(1, 3840), "max_batch": BATCH, "max_exclude": Limit(1, 65_536)},
    CompilePart: {"targets": Filled()},
    GatePart: {
        "max_relative_loss": SHARE,
        "max_slice_loss": SHARE,
        "batch_sizes": BATCH,
        "min_speedup": MORE_THAN_NONE,
        "max_size_ratio": MORE_THAN_NONE,
        "rounds": ROUNDS,
        "min_overlap": SHARE,
        "max_users": COUNT_OR_0,
        "seed": SEED,
    },
    OwnQuantizePart: {
        "percentile": Limit(50.0, 100.0),
        "max_rows": COUNT,
        "least_weights": COUNT,
        "exclude": Filled(),
        "seed": SEED,
    },
    ServePart: {"max_batch": BATCH},
    OwnGatePart: OWN_GATE,
    FairnessPart: {
        "item_groups": Filled(),
        "user_groups": Filled(),
        "min_group": COUNT,
        "top": Limit(1, 20),
        "max_exposure_loss": SHARE,
        "min_representation": SHARE,
        "max_group_loss": SHARE,
        "min_group_quality": SHARE,
    },
    FirstStagePart: {"candidates": Limit(2, 1000)},
    FeaturesPart: {
        "attributes": Filled(),
        "item_buckets": BUCKETS,
        "attribute_buckets": BUCKETS,
        "cross_buckets": BUCKETS,
        "salt": SEED,
        "max_history": Limit(1, 1000),
    },
    RerankNetworkPart: {
        "dim": Limit(1, 512),
        "hidden": Limit(1, 8192),
        "cross_layers": Limit(1, 16),
        "dropout": PART,
    },
    RerankTrainPart: {
        "list_weight": SHARE,
        "epochs": EPOCHS,
        "batch_lists": BATCH,
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "table_decay": DECAY,
        "warmup_share": PART,
        "clip_norm": MORE_THAN_NONE,
        "patience": EPOCHS,
        "checkpoint_every": COUNT,
        "validation_share": Limit(0.01, 0.5),
        "seed": SEED,
    },
    RerankGatePart: OWN_GATE,
    PublishPart: {"keep": Limit(1, 100_000)},
    SampleCopyPart: {
        "shop_seed": SEED,
        "num_products": PRODUCTS,
        "seed": SEED,
        "rounds": Limit(1, 1000),
        "renamed_share": SHARE,
        "every": PAIRS,
    },
    TextDataPart: {"max_tokens": Limit(2, TOKENS)},
    TextSplitPart: {
        "gate_share": SHARE,
        "calibration_share": SHARE,
        "validation_share": SHARE,
        "max_gate_pairs": PAIRS,
        "max_calibration_pairs": PAIRS,
        "seed": SEED,
    },
    MixedPart: {"budget": MORE_THAN_NONE, "rounds": Limit(3, 1000), "texts": PAIRS},
    PackagePart: {
        "percentile": Limit(50.0, 100.0),
        "smooth": SHARE,
        "max_context": Limit(2, TOKENS),
        "max_chunk": Limit(1, TOKENS),
        "plan_batch": Limit(1, 1024),
        "block": Limit(min(BLOCKS), max(BLOCKS)),
    },
    TuningConfig: {
        "epochs": EPOCHS,
        "batch_tokens": Limit(1, 2**24),
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "warmup_share": PART,
        "clip_norm": MORE_THAN_NONE,
        "lora_rank": Limit(1, 4096),
        "lora_alpha": Limit(1, 65_536),
        "lora_dropout": PART,
        "lora_targets": Filled(),
        "evaluate_every": COUNT_OR_0,
        "checkpoint_every": COUNT,
        "patience": EPOCHS,
        "seed": SEED,
        "accumulate": Limit(1, 65_536),
        "average": PART,
    },
    TextGatePart: {
        "max_perplexity_rise": MORE_THAN_NONE,
        "batch_sizes": BATCH,
        "filled": Limit(1, TOKENS),
        "min_speedup": MORE_THAN_NONE,
        "max_size_ratio": MORE_THAN_NONE,
        "rounds": ROUNDS,
        "reference_pairs": PAIRS,
        "max_logprob_error": MORE_THAN_NONE,
        "max_slice_rise": MORE_THAN_NONE,
        "samples": Limit(0, 1000),
        "seed": SEED,
    },
    FormPart: {"max_tokens": Limit(3, TOKENS), "dim": Limit(1, 65_536), "dims": Limit(1, 65_536)},
    TextsPart: {
        "gate_share": SHARE,
        "max_calibration_texts": PAIRS,
        "max_gate_texts": PAIRS,
        "seed": SEED,
    },
    TrainedSmallPart: {
        "layers": Limit(1, 24),
        "width": Limit(32, 4096),
        "vocab_size": Limit(64, 1_000_000),
        "max_tokens": Limit(3, TOKENS),
        "per_intent": Limit(1, 100_000),
        "titles": COUNT_OR_0,
        "epochs": EPOCHS,
        "batch_pairs": Limit(2, 65_536),
        "learning_rate": RATE,
        "temperature": Limit(0.0, 1.0, above=True),
        "dropped_tokens": PART,
        "checkpoint_every": COUNT,
        "seed": SEED,
    },
    PackageEncoderPart: {
        "percentile": Limit(50.0, 100.0),
        "smooth": SHARE,
        "targets": Filled(),
        "max_batch": BATCH,
        "max_batch_tokens": Limit(3, TOKENS),
    },
    EncoderGatePart: {
        "min_cosine": SHARE,
        "max_recall_loss": SHARE,
        "max_intent_loss_points": Limit(0.0, 100.0),
        "max_slice_loss_points": Limit(0.0, 100.0),
        "batch_sizes": BATCH,
        "tokens": Limit(1, TOKENS),
        "min_speedup": MORE_THAN_NONE,
        "max_size_ratio": MORE_THAN_NONE,
        "rounds": ROUNDS,
        "reference_texts": PAIRS,
        "max_reference_error": MORE_THAN_NONE,
        "seed": SEED,
    },
    IntentsPart: {"max_tokens": Limit(3, TOKENS), "suspect_weight": SHARE},
    SplitShares: {"validation_share": PART, "test_share": PART, "seed": SEED},
    LinearConfig: {
        "l2": Limit(0.0, 1e3, above=True),
        "balance": SHARE,
        "outside_weight": Limit(0.0, 1e3),
    },
    IntentTuning: {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "layer_decay": FACTOR,
        "head_factor": Limit(0.0, 1e3, above=True),
        "weight_decay": DECAY,
        "warmup_share": PART,
        "clip_norm": MORE_THAN_NONE,
        "label_smoothing": PART,
        "average": PART,
        "patience": EPOCHS,
        "checkpoint_every": COUNT,
        "seed": SEED,
    },
    ThresholdPart: {"max_out_answered": SHARE, "max_wrong": SHARE, "min_coverage": SHARE},
    SampleIntentsPart: {"per_intent": PAIRS, "languages": Filled(), "seed": SEED},
}
