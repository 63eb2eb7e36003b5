"""A decoder for the steps: the network with the checkpoint's names, and the shop's pairs of prompt and answer.

What it learns is the next token of each answer, as fine-tuning does (``build_engines.text.tuning``).

Keys and values that several heads of queries share stay or go with all of them. Rows of the token table stay: a decoder
writes tokens too, and an answer would need one that is gone. Normalizations over fewer channels get their weights scaled
by what the calibration texts say of the change (``narrowing.norm_changes``); training recovers the rest.

Saved in float32, whatever the uncompressed checkpoint was stored in, so that the next step starts from the same bits.

Examples: training pairs, then calibration pairs. Suffixes: B texts, T tokens, P answer tokens, V vocabulary, D width.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from build_engines.compression.families.decoder_answers import DecoderAnswers
from build_engines.compression.families.narrowing import (
    Cut,
    NormChange,
    adjust,
    check_rows,
    columns_of,
    norm_changes,
    resolved,
    taken,
)
from build_engines.compression.model import BlockNames, Family, Keep, Sizes, Traces
from build_engines.compression.sharing import own_state
from build_engines.errors import BuildError
from build_engines.models.causal.architecture import CONFIG_FILE
from build_engines.models.causal.layout import EMBEDDING, FINAL_NORM, HEAD
from build_engines.models.causal.network import (
    CausalNetwork,
    by_head,
    load_network,
    narrowed_config,
)
from build_engines.proof.leak import digests_of
from build_engines.text.batches import padded
from build_engines.text.checkpoint import TEXT_FILES
from build_engines.text.pairs import EncodedPair
from build_engines.tuning_loop import Plan, plan_epoch

WEIGHTS = "model.safetensors"
MOST_JUDGED = 256  # pairs
JUDGED_TOKENS = 8192
CALIBRATION_BATCH = 8
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_NORMS = ("input_layernorm", "post_attention_layernorm")
_MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PairData:
    """What a decoder learns from and is looked into with; shared by a teacher and its students.

    Attributes:
        checkpoint: the uncompressed decoder's folder.
        train, validation, calibration: pairs as tokens.
        batch_tokens: most tokens of a batch, padding included.
        seed: of batches.
    """

    checkpoint: Path
    train: tuple[EncodedPair, ...]
    validation: tuple[EncodedPair, ...]
    calibration: tuple[EncodedPair, ...]
    batch_tokens: int = 4096
    seed: int = 0


class Decoder:
    """See ``Compressible``."""

    def __init__(self, network: CausalNetwork, data: PairData) -> None:
        if not data.train or not data.validation:
            raise BuildError(
                f"compress: {len(data.train)} pairs to learn from and {len(data.validation)} to judge by; give more pairs, or "
                "other shares in [split] (what gate, calibration and validation leave is learnt from)"
            )
        self.network, self.data = network, data

    @property
    def family(self) -> Family:
        """Always "decoder"."""
        return "decoder"

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def sizes(self) -> Sizes:
        """Of the network as it is."""
        arch = self.network.arch
        return Sizes(
            blocks=arch.layers,
            dim=arch.dim,
            heads=arch.heads,
            kv_heads=arch.kv_heads,
            head_dim=arch.head_dim,
            inner=arch.hidden,
            rows=arch.vocab_size,
        )

    @property
    def blocks(self) -> tuple[BlockNames, ...]:
        """Where to look."""
        found = []
        for index in range(self.network.arch.layers):
            own = f"model.layers.{index}"
            linears = [f"{own}.self_attn.{name}" for name in _PROJECTIONS]
            found.append(
                BlockNames(
                    block=own,
                    attention_out=f"{own}.self_attn.o_proj",
                    ffn_down=f"{own}.mlp.down_proj",
                    linears=(*linears, *(f"{own}.mlp.{name}" for name in _MLP)),
                )
            )
        return tuple(found)

    @property
    def table(self) -> str:
        """The token table; a tied head is the same parameter."""
        return EMBEDDING

    @property
    def identity(self) -> str:
        """Digest of family, sizes and data."""
        digest = hashlib.sha256(repr((self.network.arch, self.data.batch_tokens, self.data.seed)).encode())
        for pair in (*self.data.train, *self.data.validation, *self.data.calibration):
            digest.update(f"{pair.prompt_tokens}/{len(pair.ids)}".encode() + pair.ids.tobytes())
        return digest.hexdigest()

    def plan(self, epoch: int) -> Plan:
        """Pairs of like length together."""
        lengths = [len(pair.ids) for pair in self.data.train]
        return plan_epoch(lengths, seed=self.data.seed, epoch=epoch, batch_tokens=self.data.batch_tokens)

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Mean cross-entropy of the answers' tokens."""
        self.network.train()
        summed, count = self._answers([self._pair(one) for one in batch])
        return summed / count

    def tokens(self, batch: Sequence[int]) -> int:
        """Tokens of these pairs."""
        return sum(len(self._pair(one).ids) for one in batch)

    def weight(self, batch: Sequence[int]) -> float:
        """Answers' tokens that the loss is a mean over."""
        pairs = [self._pair(one) for one in batch]
        return float(sum(len(pair.ids) - pair.prompt_tokens for pair in pairs))

    @torch.no_grad()
    def judge(self) -> float:
        """Mean loss of an answer's token on validation pairs (the first ``MOST_JUDGED``), in nats."""
        self.network.eval()
        pairs = self.data.validation[:MOST_JUDGED]
        plan = plan_epoch([len(pair.ids) for pair in pairs], seed=0, epoch=0, batch_tokens=JUDGED_TOKENS)
        total, count = 0.0, 0
        for batch in plan.batches:
            summed, tokens = self._answers([pairs[one] for one in batch])
            total, count = total + float(summed), count + tokens
        return total / count

    def calibration(self, limit: int) -> Iterator[tuple[int, ...]]:
        """Pairs that the gate never reads."""
        first, count = len(self.data.train), min(limit, len(self.data.calibration))
        for start in range(0, count, CALIBRATION_BATCH):
            yield tuple(range(first + start, first + min(start + CALIBRATION_BATCH, count)))

    def calibration_digests(self) -> frozenset[bytes]:
        """Of each calibration pair's tokens."""
        return frozenset(digests_of(pair.ids for pair in self.data.calibration))

    def traffic_R(self) -> npt.NDArray[np.float64]:
        """How often each token occurs in pairs that are learnt from."""
        seen = np.concatenate([pair.ids for pair in self.data.train])
        counts: npt.NDArray[np.float64] = np.bincount(seen, minlength=self.sizes.rows).astype(np.float64)
        return counts

    def traces(self, batch: Sequence[int]) -> Traces:
        """See ``Traces``; logits are of the answers' tokens."""
        network = self.network
        hidden: list[Tensor] = []
        projected: dict[str, Tensor] = {}
        attention = network.model.layers[-1].get_submodule("self_attn")

        def hook_for(name: str) -> object:
            def hook(module: nn.Module, inputs: object, out: Tensor) -> None:
                projected[name] = out

            return attention.get_submodule(f"{name}_proj").register_forward_hook(hook)

        handles: list[object] = [hook_for(name) for name in "qkv"]
        handles += [
            one.register_forward_hook(lambda _, __, out: hidden.append(out))
            for one in (network.model.embed_tokens, *network.model.layers)
        ]
        pairs = [self._pair(one) for one in batch]
        ids_BT, answer_BT = self._batch(pairs)
        try:
            out_BTD = network(ids_BT[:, :-1])
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]
        arch = network.arch
        lengths_B = torch.tensor([len(pair.ids) - 1 for pair in pairs], device=ids_BT.device)
        return Traces(
            logits_PC=network.logits(out_BTD[answer_BT[:, 1:]]),
            embedding_BE=None,
            hidden_BTD=tuple(hidden),
            relations={
                "q": by_head(projected["q"], arch.heads),
                "k": by_head(projected["k"], arch.kv_heads),
                "v": by_head(projected["v"], arch.kv_heads),
            },
            visible_BT=torch.arange(ids_BT.shape[1] - 1, device=ids_BT.device) < lengths_B[:, None],
        )

    def narrowed(self, keep: Keep) -> Decoder:
        """A smaller decoder; see the module for heads, tokens and normalizations."""
        cut = resolved(keep, self.sizes)
        if keep.rows is not None and len(check_rows(keep.rows, self.sizes.rows)) < self.sizes.rows:
            raise BuildError(
                "compress: rows of the token table cannot go: a decoder writes tokens, and its tokenizer would still ask for "
                "them; take prune_rows out of [[compress]]"
            )
        arch = replace(
            self.network.arch,
            layers=cut.sizes.blocks,
            dim=cut.sizes.dim,
            heads=cut.sizes.heads,
            kv_heads=cut.sizes.kv_heads,
            hidden=cut.sizes.inner,
        )
        smaller = CausalNetwork(arch).to(self._device)
        smaller.load_state_dict(_cut_state(self.network, cut, self._norm_changes(cut)))
        smaller.train(self.network.training)
        return Decoder(smaller, self.data)

    def reopened(self, folder: Path) -> Decoder:
        """A checkpoint of another decoder, with these examples."""
        return open_decoder(folder, self.data)

    def answering(self) -> DecoderAnswers:
        """For sequence-level distillation."""
        return DecoderAnswers(self)

    def save(self, folder: Path) -> None:
        """A checkpoint folder in the uncompressed one's form, with this network's sizes in its configuration."""
        state = own_state(self.network)
        broken = [name for name, one in state.items() if not bool(torch.isfinite(one).all())]
        if broken:
            raise BuildError(f"compress: {broken[0]} is not finite; lower the learning rate of the step")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        source = self.data.checkpoint
        for name in TEXT_FILES:
            if name != CONFIG_FILE and (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        config = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
        written = json.dumps(narrowed_config(config, self.network.arch), indent=1) + "\n"
        (folder / CONFIG_FILE).write_text(written, encoding="utf-8")

    @property
    def _device(self) -> torch.device:
        return self.network.model.embed_tokens.weight.device

    def _norm_changes(self, cut: Cut) -> Mapping[str, NormChange]:
        if len(cut.dims) == self.sizes.dim:
            return {}
        pairs = (self.data.calibration or self.data.train)[:CALIBRATION_BATCH]
        names = [f"{block.block}.{norm}" for block in self.blocks for norm in _NORMS]

        def look() -> Tensor:
            ids_BT, _ = self._batch(pairs)
            self.network(ids_BT)
            lengths_B = torch.tensor([len(pair.ids) for pair in pairs], device=ids_BT.device)
            return torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]

        return norm_changes(self.network, [*names, FINAL_NORM.removesuffix(".weight")], cut.dims, look)

    def _pair(self, example: int) -> EncodedPair:
        train = self.data.train
        return train[example] if example < len(train) else self.data.calibration[example - len(train)]

    def _batch(self, pairs: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
        batch = padded(pairs)
        return (
            torch.from_numpy(batch.ids_BT).to(self._device),
            torch.from_numpy(batch.answer_BT).to(self._device),
        )

    def _answers(self, pairs: Sequence[EncodedPair]) -> tuple[Tensor, int]:
        ids_BT, answer_BT = self._batch(pairs)
        hidden_PD = self.network(ids_BT[:, :-1])[answer_BT[:, 1:]]
        wanted_P = ids_BT[:, 1:][answer_BT[:, 1:]]
        summed = functional.cross_entropy(self.network.logits(hidden_PD), wanted_P, reduction="sum")
        return summed, int(wanted_P.numel())


def open_decoder(folder: Path, data: PairData) -> Decoder:
    """The decoder that a folder holds: the uncompressed one, or what a step left.

    Raises:
        BuildError: it cannot be read; names file and field.
    """
    return Decoder(load_network(folder).eval(), data)


def _cut_state(network: CausalNetwork, cut: Cut, changes: Mapping[str, NormChange]) -> Mapping[str, Tensor]:
    dims, head_dim = cut.dims, cut.sizes.head_dim
    state = {
        EMBEDDING: taken(network.get_parameter(EMBEDDING), None, dims),
        FINAL_NORM: taken(network.get_parameter(FINAL_NORM), dims),
    }
    adjust(state, FINAL_NORM.removesuffix(".weight"), changes.get(FINAL_NORM.removesuffix(".weight")))
    if network.lm_head is not None:
        state[HEAD] = taken(network.lm_head.weight, None, dims)
    for place, index in enumerate(cut.blocks):
        queries = columns_of(cut.heads[place], head_dim)
        keys = columns_of(cut.kv_heads[place], head_dim)
        inner = cut.inner[place]
        axes: dict[str, tuple[Sequence[int] | None, Sequence[int] | None]] = {
            "input_layernorm": (dims, None),
            "self_attn.q_proj": (queries, dims),
            "self_attn.k_proj": (keys, dims),
            "self_attn.v_proj": (keys, dims),
            "self_attn.q_norm": (None, None),
            "self_attn.k_norm": (None, None),
            "self_attn.o_proj": (dims, queries),
            "post_attention_layernorm": (dims, None),
            "mlp.gate_proj": (inner, dims),
            "mlp.up_proj": (inner, dims),
            "mlp.down_proj": (dims, inner),
        }
        for name, (rows, columns) in axes.items():
            parameters = dict(network.model.layers[index].get_submodule(name).named_parameters())
            if "weight" in parameters:
                weight = parameters["weight"]
                state[f"model.layers.{place}.{name}.weight"] = (
                    taken(weight, rows, columns) if weight.ndim == 2 else taken(weight, rows)
                )
            if "bias" in parameters:
                state[f"model.layers.{place}.{name}.bias"] = taken(parameters["bias"], rows)
        for name in _NORMS:
            adjust(state, f"model.layers.{place}.{name}", changes.get(f"model.layers.{index}.{name}"))
    return state
