"""Stage 2: the network, the transition counts and popularity, and their mix, chosen on validation.

All three are learnt from the training part alone. Training writes a checkpoint after every epoch into the
stage's scratch folder and goes on from it after a kill. The mix may choose the counts alone: then the network
did not help.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from build_engines.data.item_features import item_features
from build_engines.data.splits import Split
from build_engines.errors import BuildError
from build_engines.models.mix import MixRow, TunedMix, mix_scores_BN, tune_mix
from build_engines.models.popularity import decayed_popularity
from build_engines.models.sasrec import SasRecConfig, pad_attributes
from build_engines.models.training import (
    EpochReport,
    Heldout,
    TrainingConfig,
    TrainingDiverged,
    TrainingResult,
    encode_UD,
    train,
)
from build_engines.models.transitions import build_transitions
from build_engines.recipe_parts import NetworkPart
from build_engines.records import CurvePoint, TrainRecord
from build_engines.shop_files import Shop, read_shop
from build_engines.stage import Work
from build_engines.stage_parts import TrainStagePart
from build_engines.states import Loaded
from build_engines.trained_files import Reference, TrainedArrays, save_reference, save_trained

CHECKPOINT = "training.pt"
REFERENCE_HISTORIES = 32  # enough to see a wrong graph; their scores of the whole catalogue are kept


def run(loaded: Loaded, part: TrainStagePart, work: Work) -> TrainRecord:
    """Train, count, and choose the mix.

    Raises:
        BuildError: the network cannot be made of these sizes, or its loss became NaN.
    """
    shop = read_shop(loaded.output.folder)
    split = shop.split(loaded.record.split)
    histories, targets = list(split.validation.histories), split.validation.targets_C.astype(np.int64)
    features, attributes = _attributes(shop, part.network)
    result = _trained(split, part, Heldout(histories=histories, targets=targets), attributes, work)
    sequences = list(split.train)
    work.progress.say("  counting transitions and choosing the mix on validation")
    table = build_transitions(sequences, split.num_items, part.transitions, timestamps=None)
    popularity_N = decayed_popularity(sequences, split.num_items)
    query_UD = encode_UD(result.model, histories)
    tuned = tune_mix(
        query_UD, result.weights["item_emb_ND"], histories, targets, table, popularity_N, part.mix
    )
    save_trained(work.folder, TrainedArrays(weights=result.weights, table=table, popularity_N=popularity_N))
    asked = split.gate.histories.slice(0, REFERENCE_HISTORIES)
    logits_BN = encode_UD(result.model, list(asked)) @ result.weights["item_emb_ND"].T
    scores_BN = mix_scores_BN(logits_BN, table, list(asked), tuned.best.config, popularity_N)
    save_reference(work.folder, Reference(histories=asked, scores_BN=scores_BN))
    figures = _figures(tuned)
    for name, value in figures.items():
        work.progress.say(f"  validation {name}: {value:.4f}")
    return TrainRecord(
        metric="ndcg@10",
        curve=tuple(
            CurvePoint(epoch=one.epoch + 1, loss=one.loss, metric=one.ndcg_at_10, seconds=one.seconds)
            for one in result.history
        ),
        figures=figures,
        network=part.network,
        mix=tuned.best.config,
        counts=tuned.counts.config,
        item_features=features,
        seeds={"training": part.train.seed},
        notes=_notes(result, tuned),
    )


def _trained(
    split: Split,
    part: TrainStagePart,
    heldout: Heldout,
    attributes_NK: npt.NDArray[np.int64] | None,
    work: Work,
) -> TrainingResult:
    sizes = dataclasses.asdict(part.network)
    del sizes["item_features"]

    def report(epoch: EpochReport) -> None:
        quality = "" if epoch.ndcg_at_10 is None else f", validation ndcg@10 {epoch.ndcg_at_10:.4f}"
        note = f"loss {epoch.loss:.3f}{quality}"
        work.progress.step("training, epoch", epoch.epoch + 1, part.train.epochs, note)

    work.progress.step("training, epoch", 0, part.train.epochs)
    try:
        return train(
            SasRecConfig(num_items=split.num_items, **sizes),
            TrainingConfig(**dataclasses.asdict(part.train)),
            list(split.train),
            heldout,
            attributes_NK=attributes_NK,
            checkpoint=work.scratch / CHECKPOINT,
            progress=report,
        )
    except (ValueError, TrainingDiverged) as error:
        raise BuildError(f"train: {error}") from error


def _attributes(shop: Shop, network: NetworkPart) -> tuple[int, npt.NDArray[np.int64] | None]:
    if not network.item_features:
        return 0, None
    found = item_features(shop.catalogue)
    if not found.names:
        return 0, None
    per_item = [rows.tolist() for rows in list(found.of_items)]
    return len(found.names), pad_attributes([[], *per_item], len(per_item))


def _figures(tuned: TunedMix) -> dict[str, float]:
    rows: dict[str, MixRow] = {"neural": tuned.neural, "counts": tuned.counts, "mix": tuned.best}
    figures = {}
    for name, row in rows.items():
        figures[f"{name} recall@10"] = row.recall_at_10
        figures[f"{name} ndcg@10"] = row.ndcg_at_10
    return figures


def _notes(result: TrainingResult, tuned: TunedMix) -> tuple[str, ...]:
    mix = tuned.best.config
    chosen = (
        "the counts alone were best on validation: the network is not used"
        if mix.neural_weight == 0
        else f"mix: gamma {mix.gamma:g}, kappa {mix.kappa:g}, window {mix.window}, decay {mix.decay:g}"
    )
    return (f"best epoch {result.best_epoch + 1} of {len(result.history)}", chosen)
