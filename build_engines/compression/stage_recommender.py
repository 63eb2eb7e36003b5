"""Steps of a recommender's chain: from ``Trained`` to ``Trained``."""

from __future__ import annotations

import dataclasses

from build_engines.compression.chain import run_step
from build_engines.compression.families.recommender import Recommender, ShopData, open_recommender
from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressPart
from build_engines.errors import BuildError
from build_engines.models.sasrec import SasRecConfig
from build_engines.models.training import TrainingConfig
from build_engines.proof.leak import digests_of
from build_engines.recipe_parts import NetworkPart
from build_engines.shop_files import read_shop
from build_engines.stage import Work
from build_engines.states import Trained
from build_engines.trained_files import read_trained

LONG = 5  # items; shorter histories are alike by chance


def run(trained: Trained, part: CompressPart, work: Work) -> CompressRecord:
    """Run one step.

    Raises:
        BuildError: nothing of the network is served, or the step cannot be done; says which.
    """
    if trained.record.mix.neural_weight == 0:
        raise BuildError(
            "compress: the counts alone were best on validation, and nothing of the network is served; take [[compress]] out"
        )
    base = trained.uncompressed
    split = read_shop(base.loaded.output.folder).split(base.loaded.record.split)
    arrays = read_trained(base.output.folder)
    data = ShopData(
        split=split,
        training=TrainingConfig(**dataclasses.asdict(part.train)),
        arrays=arrays,
        mix=base.record.mix,
    )
    items = len(arrays.popularity_N) - 1

    def open_model(first: bool) -> Recommender:
        state = base if first else trained
        return open_recommender(state.output.folder, network_config(state.record.network, items), data)

    # Short histories are alike by chance, and a few long ones are (bots, shared carts): more than one in a hundred is none.
    judged = [rows for rows in split.gate.histories if rows.size >= LONG]
    calibrating = sum(rows.size >= LONG for rows in split.calibration)
    return run_step(
        part.number,
        part.entry,
        open_model,
        work,
        before=trained.step,
        judged=digests_of(judged),
        by_chance=max(1, calibrating // 100),
    )


def network_config(network: NetworkPart, items: int) -> SasRecConfig:
    """The network of a recipe's section and a catalogue's size."""
    sizes = dataclasses.asdict(network)
    del sizes["item_features"]
    return SasRecConfig(num_items=items, **sizes)
