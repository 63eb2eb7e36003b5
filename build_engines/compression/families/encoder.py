"""A sentence encoder for the steps: the network with the checkpoint's names, the shop's texts, and what it must still say.

What it learns: the vector that the uncompressed encoder gives a text, by cosine; where the width was cut, how like one
another the texts of a batch are, which is what is left to compare. Where the recipe has intents, the cross-entropy of a
linear head on the vectors beside it: the head that fits the uncompressed encoder's vectors is where it begins. The head
only teaches: the one that serves is trained by the intents' stage, on the encoder that comes out.

A token whose row of the word table goes is read as the kept token whose vector is nearest; tokenizer and vocabulary stay.

Normalizations over fewer channels have other statistics: their weights and biases take up what the calibration texts say
of the change (``narrowing.norm_changes``), and training recovers the rest.

Examples: texts to learn from, then calibration texts. Suffixes: B texts, T tokens, N texts, V tokens of the vocabulary,
R rows of the word table, D width, E width of a vector, C intents.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from build_engines.compression.families.encoder_state import cut_state, describe_width, write_json
from build_engines.compression.families.encoder_texts import (
    HEAD_SCALE,
    HELD_OUT,
    JUDGED_TOKENS,
    UNLABELLED,
    TextData,
    fitted_head,
)
from build_engines.compression.families.narrowing import (
    Cut,
    NormChange,
    check_rows,
    norm_changes,
    resolved,
    taken,
)
from build_engines.compression.model import BlockNames, Family, Keep, Sizes, Traces
from build_engines.compression.sharing import own_state
from build_engines.errors import BuildError
from build_engines.intents.linear import soft_targets
from build_engines.models.encoder.architecture import CONFIG_FILE, WORD_ROWS_FILE, narrowed_config
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.network import EncoderNetwork, Rows, load_network, pooled
from build_engines.models.encoder.sentence import weights_folder
from build_engines.proof.leak import digests_of
from build_engines.tuning_loop import Plan, plan_epoch

TEACHING_FILE = (
    "teaching.npz"  # for the next step: what the uncompressed encoder says, and the head that teaches
)
BATCH_TOKENS, MOST_TEXTS = 1024, 32  # of a batch: likeness within it is learnt from, so it needs a few texts
LEAST_TEXTS = 8
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.onnx", "*.h5", "*.msgpack", "*.index.json", WORD_ROWS_FILE)


class Encoder:
    """See ``Compressible``."""

    def __init__(self, network: EncoderNetwork, data: TextData, head: tuple[Tensor, Tensor] | None) -> None:
        if len(data.learn.ids) < LEAST_TEXTS:
            raise BuildError(
                f"compress: {len(data.learn.ids)} texts are left to learn from, {LEAST_TEXTS} are needed; give more in [texts], or "
                "fewer to calibration (texts.max_calibration_texts)"
            )
        self.network, self.data = network, data
        if head is not None:
            network.register_parameter("teaching_head", nn.Parameter(head[0]))
            network.register_parameter("teaching_bias", nn.Parameter(head[1]))
        held = max(1, round(HELD_OUT * len(data.learn.ids)))
        self._learnt = len(data.learn.ids) - held

    @property
    def family(self) -> Family:
        """Always "encoder"."""
        return "encoder"

    @property
    def module(self) -> nn.Module:
        """The network, and the head that teaches it where there is one."""
        return self.network

    @property
    def sizes(self) -> Sizes:
        """Of the network as it is."""
        arch = self.network.arch
        return Sizes(
            blocks=arch.layers,
            dim=arch.dim,
            heads=arch.heads,
            kv_heads=arch.heads,
            head_dim=arch.head_dim,
            inner=arch.hidden,
            rows=arch.table_rows,
        )

    @property
    def blocks(self) -> tuple[BlockNames, ...]:
        """Where to look."""
        found = []
        for index, layer in enumerate(self.network.layout.layers):
            linears = [part.stem for matrix in layer.matrices for part in matrix.parts]
            found.append(
                BlockNames(
                    block=self.network.block_name(index),
                    attention_out=layer.out.parts[0].stem,
                    ffn_down=layer.down.parts[0].stem,
                    linears=tuple(linears),
                )
            )
        return tuple(found)

    @property
    def table(self) -> str:
        """The word table."""
        return self.network.layout.words

    @property
    def identity(self) -> str:
        """Digest of family, sizes and data."""
        digest = hashlib.sha256(repr((self.network.arch, self.data.form, self.data.intents)).encode())
        for ids in (*self.data.learn.ids, *self.data.calibration):
            digest.update(ids.tobytes() + b"/")
        digest.update(self.data.learn.labels_N.tobytes())
        return digest.hexdigest()

    def plan(self, epoch: int) -> Plan:
        """Texts of like length together."""
        order = np.random.default_rng([self.data.seed, epoch])
        lengths = np.array([len(ids) for ids in self.data.learn.ids[: self._learnt]])
        ranked = np.lexsort((order.permutation(self._learnt), lengths)).tolist()
        size = min(MOST_TEXTS, max(4, BATCH_TOKENS // int(lengths.max())))
        groups = [tuple(ranked[at : at + size]) for at in range(0, len(ranked), size)]
        return Plan(epoch, tuple(groups[at] for at in order.permutation(len(groups))))

    def loss(self, batch: Sequence[int]) -> Tensor:
        """1 - cosine with the uncompressed encoder's vectors (or the likeness of texts), and the intents."""
        self.network.train()
        vectors_BE = self._vectors(batch)
        return self._loss(vectors_BE, batch)

    def tokens(self, batch: Sequence[int]) -> int:
        """Tokens of these texts."""
        return sum(len(self._ids(one)) for one in batch)

    @torch.no_grad()
    def judge(self) -> float:
        """The same loss on the texts that were held out of learning."""
        self.network.eval()
        held = range(self._learnt, len(self.data.learn.ids))
        plan = plan_epoch(
            [len(self.data.learn.ids[one]) for one in held], seed=0, epoch=0, batch_tokens=JUDGED_TOKENS
        )
        total = 0.0
        for places in plan.batches:
            batch = [held[place] for place in places]
            total += float(self._loss(self._vectors(batch), batch)) * len(batch)
        return total / len(held)

    def calibration(self, limit: int) -> Iterator[tuple[int, ...]]:
        """Texts that the gate never reads."""
        first, count = len(self.data.learn.ids), min(limit, len(self.data.calibration))
        for start in range(0, count, MOST_TEXTS):
            yield tuple(range(first + start, first + min(start + MOST_TEXTS, count)))

    def calibration_digests(self) -> frozenset[bytes]:
        """Of each calibration text's tokens."""
        return frozenset(digests_of(self.data.calibration))

    def traffic_R(self) -> npt.NDArray[np.float64]:
        """How often each row is read, in all texts that are learnt from or looked at."""
        seen = np.concatenate([*self.data.learn.ids, *self.data.calibration])
        counts: npt.NDArray[np.float64] = np.bincount(
            self.network.rows_V[seen], minlength=self.sizes.rows
        ).astype(np.float64)
        return counts

    def traces(self, batch: Sequence[int]) -> Traces:
        """See ``Traces``."""
        network = self.network
        hidden: list[Tensor] = []
        projected: dict[str, Tensor] = {}
        last = network.block(network.arch.layers - 1)
        norm = network.get_submodule(network.layout.norm.stem)

        def keep(name: str) -> object:
            def hook(module: nn.Module, inputs: object, out: Tensor) -> None:
                projected[name] = out

            return last.get_submodule(last.names[name]).register_forward_hook(hook)

        handles: list[object] = [keep(name) for name in "qkv"]
        handles += [
            one.register_forward_hook(lambda _, __, out: hidden.append(out))
            for one in (norm, *(network.block(index) for index in range(network.arch.layers)))
        ]
        try:
            ids_BT, lengths_B = self._batch(batch)
            out_BTD = network(ids_BT, lengths_B)
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]
        vectors_BE = self._pooled(out_BTD, lengths_B)
        return Traces(
            logits_PC=self._logits(vectors_BE),
            embedding_BE=vectors_BE,
            hidden_BTD=tuple(hidden),
            relations={name: last.by_head(projected[name]) for name in "qkv"},
            visible_BT=torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None],
        )

    def narrowed(self, keep: Keep) -> Encoder:
        """A smaller encoder; see the module for tokens and normalizations."""
        cut = resolved(keep, self.sizes)
        arch, row_V = self.network.arch, None if self.network.arch.word_rows is None else self.network.rows_V
        rows = tuple(range(self.sizes.rows)) if keep.rows is None else check_rows(keep.rows, self.sizes.rows)
        if len(rows) < self.sizes.rows:
            row_V = self._rows_without(rows)
        smaller_arch = replace(
            arch,
            layers=cut.sizes.blocks,
            dim=cut.sizes.dim,
            heads=cut.sizes.heads,
            hidden=cut.sizes.inner,
            word_rows=None if row_V is None else len(rows),
        )
        smaller = EncoderNetwork(smaller_arch, row_V).to(self._device)
        smaller.load_state_dict(cut_state(self.network, smaller, cut, rows, self._norm_changes(cut)))
        smaller.train(self.network.training)
        form = self.data.form
        data = self.data if form.dim <= len(cut.dims) else _with_dim(self.data, len(cut.dims))
        return Encoder(smaller, data, self._cut_head(cut))

    def reopened(self, folder: Path) -> Encoder:
        """A checkpoint of another encoder, with these examples."""
        return open_encoder(folder, self.data)

    def inputs(self, example: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """What a graph is asked with."""
        ids = self._ids(example).astype(np.int64)
        return {"input_ids": ids, "lengths": np.array(len(ids), np.int64)}

    def save(self, folder: Path) -> None:
        """A checkpoint folder in the uncompressed one's form, with this network's sizes in its configuration."""
        self.network.eval()
        state = {
            name: one for name, one in own_state(self.network).items() if not name.startswith("teaching_")
        }
        broken = [name for name, one in state.items() if not bool(torch.isfinite(one).all())]
        if broken:
            raise BuildError(f"compress: {broken[0]} is not finite; lower the learning rate of the step")
        source, arch = self.data.checkpoint, self.network.arch
        shutil.copytree(
            source,
            folder,
            ignore=shutil.ignore_patterns(*_WEIGHT_FILES, TEACHING_FILE, ".*"),
            dirs_exist_ok=True,
        )
        place = folder / weights_folder(source).relative_to(source)
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((place / CONFIG_FILE).read_text(encoding="utf-8"))
        write_json(place / CONFIG_FILE, narrowed_config(config, arch))
        if arch.word_rows is not None:
            np.save(place / WORD_ROWS_FILE, self.network.rows_V.astype(np.int32))
        describe_width(folder, arch.dim)
        head = self._head()
        vectors = self.data.wanted_NE().numpy()
        if head is None:
            np.savez(folder / TEACHING_FILE, vectors=vectors)
        else:
            weight, bias = (one.detach().cpu().numpy() for one in head)
            np.savez(folder / TEACHING_FILE, vectors=vectors, weight=weight, bias=bias)

    @property
    def _device(self) -> torch.device:
        return self.network.table.weight.device

    def _ids(self, example: int) -> Ids:
        learn = self.data.learn.ids
        return learn[example] if example < len(learn) else self.data.calibration[example - len(learn)]

    def _batch(self, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids_BT, lengths_B = padded([self._ids(one) for one in batch])
        return torch.from_numpy(ids_BT).to(self._device), torch.from_numpy(lengths_B).to(self._device)

    def _norm_changes(self, cut: Cut) -> Mapping[str, NormChange]:
        if len(cut.dims) == self.sizes.dim:
            return {}
        layout, first = self.network.layout, len(self.data.learn.ids)
        batch = range(first, first + min(MOST_TEXTS, len(self.data.calibration))) or range(MOST_TEXTS)
        norms = [layout.norm, *(norm for layer in layout.layers for norm in (layer.norm1, layer.norm2))]

        def look() -> Tensor:
            ids_BT, lengths_B = self._batch(batch)
            self.network(ids_BT, lengths_B)
            return torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]

        return norm_changes(self.network, [norm.stem for norm in norms], cut.dims, look)

    def _pooled(self, hidden_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        form = self.data.form
        dim = min(form.dim, self.network.arch.dim)
        return pooled(hidden_BTD, lengths_B, pooling=form.pooling, dim=dim, normalize=True)

    def _vectors(self, batch: Sequence[int]) -> Tensor:
        ids_BT, lengths_B = self._batch(batch)
        return self._pooled(self.network(ids_BT, lengths_B), lengths_B)

    def _loss(self, vectors_BE: Tensor, batch: Sequence[int]) -> Tensor:
        wanted_BE = self.data.wanted_NE()[list(batch)].to(vectors_BE.device)
        if vectors_BE.shape[1] == wanted_BE.shape[1]:
            loss = (1 - (vectors_BE * wanted_BE).sum(1)).mean()
        else:
            loss = (vectors_BE @ vectors_BE.T - wanted_BE @ wanted_BE.T).square().mean()
        logits_BC = self._logits(vectors_BE)
        labels_B = self.data.learn.labels_N[list(batch)]
        known = np.flatnonzero(labels_B != UNLABELLED)
        if logits_BC is None or not len(known):
            return loss
        targets = torch.from_numpy(soft_targets(labels_B[known], self.data.intents)).to(vectors_BE.device)
        return loss + functional.cross_entropy(logits_BC[known], targets)

    def _head(self) -> tuple[Tensor, Tensor] | None:
        if "teaching_head" not in dict(self.network.named_parameters(recurse=False)):
            return None
        return self.network.get_parameter("teaching_head"), self.network.get_parameter("teaching_bias")

    def _logits(self, vectors_BE: Tensor) -> Tensor | None:
        head = self._head()
        return None if head is None else HEAD_SCALE * (vectors_BE @ head[0].T + head[1])

    def _cut_head(self, cut: Cut) -> tuple[Tensor, Tensor] | None:
        head = self._head()
        if head is None:
            return None
        width = head[0].shape[1]
        columns = [dim for dim in cut.dims if dim < width]
        return taken(head[0], None, columns), taken(head[1])

    def _rows_without(self, kept: tuple[int, ...]) -> Rows:
        table_RD = functional.normalize(self.network.table.weight.detach(), dim=-1, eps=1e-12)
        gone = np.setdiff1d(np.arange(self.sizes.rows), kept)
        place_R = np.full(self.sizes.rows, -1)
        place_R[list(kept)] = np.arange(len(kept))
        kept_DK = table_RD[list(kept)].T
        for start in range(0, len(gone), 4096):
            some = gone[start : start + 4096]
            place_R[some] = (table_RD[some] @ kept_DK).argmax(dim=1).cpu().numpy()
        rows: Rows = place_R[self.network.rows_V]
        return rows


def open_encoder(folder: Path, data: TextData) -> Encoder:
    """The encoder that a folder holds: the uncompressed one's, or what a step left.

    Raises:
        BuildError: it cannot be read; names file and field.
    """
    network = load_network(weights_folder(folder))
    head, kept = None, folder / TEACHING_FILE
    if kept.is_file():  # the same data taught the step before
        with np.load(kept) as file:
            data.taught(torch.from_numpy(file["vectors"]))
            if data.intents:
                head = torch.from_numpy(file["weight"]), torch.from_numpy(file["bias"])
    elif data.intents:
        head = fitted_head(data)
    if network.arch.dim < data.form.dim:
        data = _with_dim(data, network.arch.dim)
    return Encoder(network.eval(), data, head)


def _with_dim(data: TextData, dim: int) -> TextData:
    cut = replace(data, form=replace(data.form, dim=dim))
    cut.taught(data.wanted_NE())
    return cut
