"""A recommender for the steps: ``SasRec``, the split of its shop, and the loss that it was trained with.

It begins at the arrays that ``train`` exported, where item attributes are folded into the table already: a step sees one
table, and what is learnt from here on is learnt by that table.

A row of the table that goes does not take its item with it. The catalogue, the transition counts and the popularity keep
every item; in a history, an item without a row of its own is looked up as the kept item whose vector is nearest; and it is
scored by one row that all such items share, the mean of theirs weighted by traffic. So among themselves they are ranked by
the counts, and none of them crowds out an item that the network knows.

Logits of ``traces`` are of the catalogue's N items (column 0 is item 1), whatever rows the table has: teacher and student
of one shop have the same columns.

Examples: training sequences first, then calibration histories. Suffixes: U sequences, P positions, N items with row 0,
R rows of the table, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from build_engines.compression.families.narrowing import (
    Cut,
    NormChange,
    check_rows,
    norm_changes,
    resolved,
)
from build_engines.compression.families.recommender_state import LINEARS, cut_state
from build_engines.compression.families.recommender_state import state_of_export as state_of_export
from build_engines.compression.model import BlockNames, Family, Keep, Sizes, Traces
from build_engines.compression.sharing import own_state
from build_engines.data.splits import Split
from build_engines.errors import BuildError
from build_engines.models.catalogue_loss import catalogue_loss
from build_engines.models.mix import MixConfig, mix_scores_BN
from build_engines.models.sasrec import (
    INPUT_ROW,
    SCORE_ROW,
    ItemRows,
    SasRec,
    SasRecConfig,
    encode_UD,
    left_padded,
)
from build_engines.models.training import TrainingConfig, future_targets, planned_batches
from build_engines.proof.leak import digests_of
from build_engines.trained_files import (
    Reference,
    TrainedArrays,
    read_trained,
    save_reference,
    save_trained,
)
from build_engines.tuning_loop import Plan

MODULE_FILE = "module.safetensors"
JUDGED_USERS = 4096
TRACED_POSITIONS = 2048  # of a batch: their scores of the whole catalogue are kept with gradients
CALIBRATION_BATCH = 64
REFERENCE_HISTORIES = 32


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShopData:
    """What a recommender learns from and is looked into with; shared by a teacher and its students.

    Attributes:
        split: of the shop.
        training: loss and batches of the train stage; its learning rate and epochs are a step's business.
        arrays: counts and popularity as ``train`` left them; its weights are those of the uncompressed model.
        mix: how scores are mixed when served.
    """

    split: Split
    training: TrainingConfig
    arrays: TrainedArrays
    mix: MixConfig


class Recommender:
    """See ``Compressible``."""

    def __init__(self, module: SasRec, data: ShopData) -> None:
        self.sasrec, self.data = module, data
        length = module.config.length
        self._train = [
            np.asarray(one, dtype=np.int64)[-length - 1 :] for one in data.split.train if len(one) >= 2
        ]
        self._calibration = [
            np.asarray(one, dtype=np.int64)[-length:] for one in data.split.calibration if len(one) >= 1
        ]
        if not self._train:
            raise BuildError("compress: no training sequence has two interactions: nothing can be learnt")

    @property
    def family(self) -> Family:
        """Always "recommender"."""
        return "recommender"

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.sasrec

    @property
    def sizes(self) -> Sizes:
        """Of the network as it is."""
        config = self.sasrec.config
        return Sizes(
            blocks=config.blocks,
            dim=config.dim,
            heads=config.heads,
            kv_heads=config.heads,
            head_dim=config.head_width,
            inner=config.inner_width,
            rows=self.sasrec.items.num_embeddings,
        )

    @property
    def blocks(self) -> tuple[BlockNames, ...]:
        """Where to look."""
        return tuple(
            BlockNames(
                block=f"blocks.{index}",
                attention_out=f"blocks.{index}.out",
                ffn_down=f"blocks.{index}.down",
                linears=tuple(f"blocks.{index}.{name}" for name in LINEARS),
            )
            for index in range(self.sasrec.config.blocks)
        )

    @property
    def table(self) -> str:
        """Item vectors."""
        return "items.weight"

    @property
    def identity(self) -> str:
        """Digest of family, sizes and data."""
        training = replace(self.data.training, epochs=1, learning_rate=1.0)
        digest = hashlib.sha256(repr((self.family, self.sasrec.config, self.sizes, training)).encode())
        for part in (
            self.data.split.train,
            self.data.split.calibration,
            self.data.split.validation.histories,
        ):
            digest.update(part.offsets_U1.tobytes() + part.item_rows_E.tobytes())
        return digest.hexdigest()

    def plan(self, epoch: int) -> Plan:
        """Sequences of like length together."""
        order = np.random.default_rng([self.data.training.seed, epoch])
        lengths = np.array([len(one) for one in self._train])
        return Plan(epoch, planned_batches(lengths, self.data.training.batch_size, order))

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Softmax over the whole catalogue at every position, against the next ``future`` items."""
        self.sasrec.train()
        x_PD, table_ND, targets_PF, weights_PF = self._positions([self._train[one] for one in batch])
        return catalogue_loss(x_PD, table_ND, targets_PF, weights_PF, torch.float32)

    def tokens(self, batch: Sequence[int]) -> int:
        """Items that something is predicted at."""
        return sum(len(self._history(one)) for one in batch)

    def weight(self, batch: Sequence[int]) -> float:
        """Positions that the loss is a mean over."""
        return float(self.tokens(batch))

    @torch.no_grad()
    def judge(self) -> float:
        """Mean cross-entropy of validation users' next items, in nats; of at most ``JUDGED_USERS``, evenly spread."""
        cases = self.data.split.validation
        if len(cases) > JUDGED_USERS:
            cases = cases.take(np.linspace(0, len(cases) - 1, JUDGED_USERS).astype(np.int64))
        self.sasrec.eval()
        query_UD = torch.from_numpy(encode_UD(self.sasrec, list(cases.histories))).to(self._device)
        table_ND = self.sasrec.output_table_ND(self.sasrec.item_vectors_ND())
        targets_U = torch.from_numpy(cases.targets_C.astype(np.int64)).to(self._device)
        total = 0.0
        for start in range(0, len(cases), 1024):
            logits_UN = query_UD[start : start + 1024] @ table_ND.T
            logits_UN[:, 0] = -torch.inf
            total += float(
                functional.cross_entropy(logits_UN, targets_U[start : start + 1024], reduction="sum")
            )
        return total / len(cases)

    def calibration(self, limit: int) -> Iterator[tuple[int, ...]]:
        """Histories of users whom the gate never judges."""
        first, count = len(self._train), min(limit, len(self._calibration))
        for start in range(0, count, CALIBRATION_BATCH):
            yield tuple(range(first + start, first + min(start + CALIBRATION_BATCH, count)))

    def calibration_digests(self) -> frozenset[bytes]:
        """Of each calibration history."""
        return frozenset(digests_of(self._calibration))

    def traffic_R(self) -> npt.NDArray[np.float64]:
        """Training events of the items that are looked up in each row or scored by it."""
        counts_N = self.data.split.train_counts_N1().astype(np.float64)
        rows = self.sasrec.item_rows
        if rows is None:
            return counts_N
        return _summed(rows.input_N, counts_N, rows.rows)

    def traces(self, batch: Sequence[int]) -> Traces:
        """See ``Traces``; logits of at most ``TRACED_POSITIONS`` positions, evenly spread."""
        module = self.sasrec
        ids_BL = torch.from_numpy(left_padded([self._history(one) for one in batch])).to(self._device)
        vectors_RD = module.item_vectors_ND()
        hidden: list[Tensor] = []
        projected: list[Tensor] = []
        hooks = [
            module.dropout.register_forward_hook(lambda _, __, out: hidden.append(out)),
            *(block.register_forward_hook(lambda _, __, out: hidden.append(out)) for block in module.blocks),
            module.blocks[-1]
            .get_submodule("qkv")
            .register_forward_hook(lambda _, __, out: projected.append(out)),
        ]
        try:
            x_BLD = module(ids_BL, vectors_RD)
        finally:
            for hook in hooks:
                hook.remove()
        visible_BL = ids_BL > 0
        x_PD = x_BLD[visible_BL]
        if len(x_PD) > TRACED_POSITIONS:
            x_PD = x_PD[torch.linspace(0, len(x_PD) - 1, TRACED_POSITIONS, device=x_PD.device).long()]
        query, key, value = module.blocks[-1].split(projected[0])  # type: ignore[operator]
        return Traces(
            logits_PC=x_PD @ module.output_table_ND(vectors_RD)[1:].T,
            embedding_BE=x_BLD[:, -1],
            hidden_BTD=tuple(hidden),
            relations={"q": query, "k": key, "v": value},
            visible_BT=visible_BL,
        )

    def narrowed(self, keep: Keep) -> Recommender:
        """A smaller ``SasRec``.

        Normalizations over fewer channels have other statistics: their weights and biases take up what the calibration
        histories say of the change, and training recovers the rest. The table is scaled so that what enters the first block
        stays what it was.
        """
        cut = resolved(keep, self.sizes)
        module = self.sasrec
        config = replace(
            module.config,
            dim=cut.sizes.dim,
            blocks=cut.sizes.blocks,
            heads=cut.sizes.heads,
            head_dim=cut.sizes.head_dim,
            inner=cut.sizes.inner,
        )
        table_RD, item_rows = module.item_vectors_ND().detach(), module.item_rows
        if keep.rows is not None:
            table_RD, item_rows = self._without_rows(check_rows(keep.rows, self.sizes.rows))
        smaller = SasRec(config, item_rows=item_rows).to(self._device)
        smaller.load_state_dict(cut_state(module, cut, table_RD, self._norm_changes(cut)))
        smaller.train(module.training)
        return Recommender(smaller, self.data)

    def save(self, folder: Path) -> None:
        """What ``train`` leaves, and the network's own parameters for a further step."""
        self.sasrec.eval()
        weights = self.sasrec.export_weights()
        broken = [name for name, array in weights.items() if not np.isfinite(array).all()]
        if broken:
            raise BuildError(f"compress: {broken[0]} is not finite; lower the learning rate of the step")
        arrays = self.data.arrays
        save_trained(
            folder, TrainedArrays(weights=weights, table=arrays.table, popularity_N=arrays.popularity_N)
        )
        # Exported tables are normalized; what a step made of the raw ones (zeros, codebooks) would be rounded away.
        save_file(own_state(self.sasrec), folder / MODULE_FILE)
        asked = self.data.split.gate.histories.slice(0, REFERENCE_HISTORIES)
        table_ND = self.sasrec.output_table_ND(self.sasrec.item_vectors_ND()).detach().cpu().numpy()
        logits_BN = encode_UD(self.sasrec, list(asked)) @ table_ND.T
        scores_BN = mix_scores_BN(logits_BN, arrays.table, list(asked), self.data.mix, arrays.popularity_N)
        save_reference(folder, Reference(histories=asked, scores_BN=scores_BN))

    @property
    def _device(self) -> torch.device:
        return self.sasrec.positions.device

    def _norm_changes(self, cut: Cut) -> Mapping[str, NormChange]:
        if len(cut.dims) == self.sizes.dim:
            return {}
        histories = (self._calibration or [one[:-1] for one in self._train])[:256]
        names = [f"{block.block}.{norm}" for block in self.blocks for norm in ("norm1", "norm2")]

        def look() -> Tensor:
            ids_BL = torch.from_numpy(left_padded(histories)).to(self._device)
            self.sasrec(ids_BL)
            return ids_BL > 0

        return norm_changes(self.sasrec, [*names, "final_norm"], cut.dims, look)

    def _history(self, example: int) -> npt.NDArray[np.int64]:
        if example < len(self._train):
            return self._train[example][:-1]
        return self._calibration[example - len(self._train)]

    def _positions(self, sequences: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        module = self.sasrec
        ids_BL = torch.from_numpy(left_padded([one[:-1] for one in sequences])).to(self._device)
        targets_PF, weights_PF = future_targets(sequences, ids_BL.shape[1], self.data.training)
        vectors_RD = module.item_vectors_ND()
        x_PD = module(ids_BL, vectors_RD)[ids_BL > 0]
        return (
            x_PD,
            module.output_table_ND(vectors_RD),
            torch.from_numpy(targets_PF).to(self._device),
            torch.from_numpy(weights_PF).to(self._device),
        )

    def _without_rows(self, kept: tuple[int, ...]) -> tuple[Tensor, ItemRows | None]:
        module, size = self.sasrec, self.sizes.rows
        if kept[0] != 0 or len(kept) < 2:
            raise BuildError("compress: rows: row 0 (padding) and at least one item's row must be kept")
        table_RD, before = module.item_vectors_ND().detach(), module.item_rows
        if len(kept) == size:
            return table_RD, before
        gone = np.setdiff1d(np.arange(size), kept)
        items = np.arange(module.config.num_items + 1)
        input_N = items if before is None else before.input_N
        score_N = items if before is None else before.score_N
        unit_RD = functional.normalize(table_RD, dim=-1, eps=1e-12)
        nearest = 1 + (unit_RD[gone] @ unit_RD[list(kept[1:])].T).argmax(dim=1).cpu().numpy()
        place_R = np.full(size, -1)
        place_R[list(kept)] = np.arange(len(kept))
        looked_up = place_R.copy()
        looked_up[gone] = nearest
        shared = len(kept)  # the row behind the kept ones
        place_R[gone] = shared
        weight_G = torch.from_numpy(self._scored_traffic(score_N, size)[gone] + 1.0).to(table_RD)
        mean_D = (table_RD[gone] * (weight_G / weight_G.sum())[:, None]).sum(0, keepdim=True)
        rows = ItemRows(input_N=looked_up[input_N], score_N=place_R[score_N], rows=shared + 1)
        return torch.cat([table_RD[list(kept)], mean_D]), rows

    def _scored_traffic(self, score_N: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
        counts_N = self.data.split.train_counts_N1().astype(np.float64)
        return _summed(score_N, counts_N, size)


def open_recommender(folder: Path, config: SasRecConfig, data: ShopData) -> Recommender:
    """The model that ``train``, or a step, left in a folder.

    Args:
        folder: of the stage.
        config: its sizes.
        data: what it was trained on.

    Raises:
        BuildError: the arrays are of other sizes.
    """
    weights = read_trained(folder).weights
    rows = None
    if SCORE_ROW in weights:
        rows = ItemRows(
            input_N=weights[INPUT_ROW].astype(np.int64),
            score_N=weights[SCORE_ROW].astype(np.int64),
            rows=len(weights["item_emb_ND"]),
        )
    module = SasRec(config, item_rows=rows)
    own = folder / MODULE_FILE
    try:
        module.load_state_dict(load_file(own) if own.is_file() else state_of_export(weights, config))
    except (RuntimeError, SafetensorError) as error:
        raise BuildError(f"{folder}: the weights are broken, or of another network: {error}") from error
    return Recommender(module.to(data.training.device), data)


def _summed(
    rows_N: npt.NDArray[np.int64], counts_N: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    return np.bincount(rows_N, weights=counts_N, minlength=size).astype(np.float64)
