"""A small BERT of a shop's own texts: tokenizer, weights and configuration from seeds, as a Hugging Face folder.

For where there is neither a package of pretrained weights nor a hub. Each text of a step is to be found closer to its partner
(``small_texts``) than to the partners of all others, from either side; texts that may belong together are not held apart. The
loop is ``build_engines.tuning_loop``: it goes on from its checkpoint, and ends with the same bits.

Suffixes: B pairs, T tokens, D width, N texts, P passages.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from build_engines.encoder.small_parts import HEAD_WIDTH, TrainedSmallPart
from build_engines.encoder.small_texts import Teaching
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.sentence import TOKENIZER_FILE
from build_engines.tuning_loop import LoopOptions, LossPoint, Plan, TuningResult, run_loop

HISTORY_FILE = "training.json"
_PAD, _UNKNOWN, _FIRST, _LAST = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORD_SCALE, _PLACE_SCALE = 0.05, 0.005  # at first a text is its words: where they stand has to be learnt
_CHUNKS = 4  # a step's texts are read in so many parts of like length
_JUDGED = 64  # texts at once, without gradients
_KEPT_TOKENS = 5  # of a text shorter than that, none is left out

Progress = Callable[[int, int, LossPoint | None], None]


def train_small_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a WordPiece tokenizer in BERT's form: small letters without accents, Chinese characters one by one.

    Args:
        texts: what to learn from; the same texts give the same tokenizer.
        vocab_size: tokens at most, the four special ones (ids 0 to 3) included.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True, handle_chinese_chars=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    pieces = _pieces(words, vocab_size - len(SPECIAL))
    vocabulary = {piece: at for at, piece in enumerate((*SPECIAL, *pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=_UNKNOWN))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    ids = {name: tokenizer.token_to_id(name) for name in (_FIRST, _LAST)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_FIRST} $A {_LAST}", special_tokens=list(ids.items())
    )
    return tokenizer


def train_small(
    part: TrainedSmallPart,
    teaching: Teaching,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TuningResult:
    """Train, and write config.json, model.safetensors, tokenizer.json and how it went into ``folder``.

    Args:
        part: see there.
        teaching: what to learn from and judge by.
        folder: where to; made if it is not there.
        checkpoint: see ``run_loop``.
        progress: see ``run_loop``.

    Raises:
        ValueError: the checkpoint is of another configuration or data.
        TuningDiverged: the loss is no number any more.
    """
    tokenizer = train_small_tokenizer(_vocabulary(teaching), vocab_size=part.vocab_size)
    model = _new_model(part, tokenizer.get_vocab_size())
    learner = _Pairs(model, part, teaching, tokenizer)
    parameters = dict(model.named_parameters())
    matrices = [one for one in parameters.values() if one.ndim > 1]
    rest = [one for one in parameters.values() if one.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    result = run_loop(
        learner,
        parameters,
        [torch.optim.AdamW(groups, lr=part.learning_rate, betas=(0.9, 0.98))],
        LoopOptions(
            epochs=part.epochs,
            learning_rate=part.learning_rate,
            warmup_share=0.05,
            schedule="linear",
            clip_norm=1.0,
            evaluate_every=0,
            checkpoint_every=part.checkpoint_every,
            patience=part.epochs,
            average=0.98,
            seed=part.seed % 2**32,
            device="cpu",
        ),
        identity=hashlib.sha256(f"{part!r}/{teaching.sha256}".encode()).hexdigest(),
        checkpoint=checkpoint,
        progress=progress,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(str(folder))
    tokenizer.save(str(folder / TOKENIZER_FILE))
    history = {
        "trained": "by the builder on the shop's own texts, from random weights; no pretrained encoder",
        "plan": {name: value for name, value in asdict(part).items() if not isinstance(value, Path)},
        "parameters": sum(one.numel() for one in parameters.values()),
        "texts": len(teaching.texts),
        "judged": len(teaching.judged),
        "tokens": result.tokens,
        "curve": [
            {name: value for name, value in asdict(one).items() if name != "seconds"} for one in result.curve
        ],
    }
    (folder / HISTORY_FILE).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8", newline="\n")
    return result


def _pieces(words: Counter[str], most: int) -> list[str]:
    # By merges, and not by the library's trainer of WordPiece: that one numbers pieces in the order of a hash map, which is
    # another one each time.
    merged = Tokenizer(models.BPE())
    merged.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=max(1, most), min_frequency=2, show_progress=False)
    ordered = sorted(words.items())
    merged.train_from_iterator((" ".join([word] * count) for word, count in ordered), trainer)
    letters, counts = Counter[str](), Counter[str]()
    for word, count in ordered:
        for at, piece in enumerate(merged.encode(word).tokens):
            counts[piece if at == 0 else f"##{piece}"] += count
        for at, letter in enumerate(word):
            letters[letter if at == 0 else f"##{letter}"] += count
    # Letters first: with all of them, no word that is made of known ones is unknown.
    first = sorted(letters, key=lambda piece: (-letters[piece], piece))
    rest = sorted(counts.keys() - letters.keys(), key=lambda piece: (-counts[piece], piece))
    return [*first, *rest][:most]


class _Pairs:
    """A ``Learner`` of texts and their partners."""

    def __init__(self, model: Any, part: TrainedSmallPart, teaching: Teaching, tokenizer: Tokenizer) -> None:
        self.model, self.part, self.teaching = model, part, teaching

        def read(texts: Iterable[str]) -> list[Ids]:
            return [
                np.array(one.ids[: part.max_tokens], np.int64) for one in tokenizer.encode_batch(list(texts))
            ]

        self.ids = read(one.text for one in teaching.texts)
        self.passages = read(teaching.passages)
        self.questions = read(text for text, _ in teaching.judged)
        self.topics = _numbers(one.topic for one in teaching.texts)
        self.places = _numbers(one.place for one in teaching.texts)
        self.right_NP = torch.zeros(len(self.questions), len(self.passages), dtype=torch.bool)
        for at, (_, places) in enumerate(teaching.judged):
            self.right_NP[at, list(places)] = True
        self.partners: list[int] = []

    def plan(self, epoch: int) -> Plan:
        self.partners = self.teaching.drawn(self.part.seed, epoch)
        order = np.random.default_rng([self.part.seed, epoch, 1]).permutation(len(self.ids)).tolist()
        size = min(self.part.batch_pairs, len(order))
        whole = (
            len(order) - len(order) % size
        )  # pairs are told from the rest of their step: none may be short
        return Plan(epoch, tuple(tuple(order[at : at + size]) for at in range(0, whole, size)))

    def loss(self, batch: Sequence[int]) -> Tensor:
        self.model.train()
        ours, theirs = list(batch), [self.partners[at] for at in batch]
        vectors_ND = self._vectors([self._seen(self.ids[at]) for at in (*ours, *theirs)])
        cosines_BB = vectors_ND[: len(ours)] @ vectors_ND[len(ours) :].T / self.part.temperature
        logits_BB = cosines_BB.masked_fill(self._together(ours, theirs), float("-inf"))
        own_B = torch.arange(len(ours))
        from_ours = nn.functional.cross_entropy(logits_BB, own_B)
        return 0.5 * (from_ours + nn.functional.cross_entropy(logits_BB.T, own_B))

    def tokens(self, batch: Sequence[int]) -> int:
        return sum(len(self.ids[at]) + len(self.ids[self.partners[at]]) for at in batch)

    @torch.no_grad()
    def judge(self) -> float:
        """How little of the probability the right passages of a held-out question get, in nats."""
        self.model.eval()
        if not self.questions:
            return 0.0
        logits_NP = self._read(self.questions) @ self._read(self.passages).T / self.part.temperature
        right_NP = logits_NP.masked_fill(~self.right_NP, float("-inf"))
        return float((logits_NP.logsumexp(1) - right_NP.logsumexp(1)).mean())

    def _together(self, ours: Sequence[int], theirs: Sequence[int]) -> Tensor:
        """What may belong together ``[B, B]``, each with its own partner left out."""
        topics_B1, topics_1B = self.topics[ours][:, None], self.topics[theirs][None]
        places_B1, places_1B = self.places[ours][:, None], self.places[theirs][None]
        known = (places_B1 >= 0) & (places_1B >= 0)
        same_topic = (topics_B1 == topics_1B) & (topics_B1 >= 0)
        same_text = np.array(ours)[:, None] == np.array(theirs)[None]
        together = np.where(known, places_B1 == places_1B, same_topic) | same_text
        np.fill_diagonal(together, False)
        return torch.from_numpy(together)

    def _seen(self, ids: Ids) -> Ids:
        if len(ids) < _KEPT_TOKENS or not self.part.dropped_tokens:
            return ids
        kept = (torch.rand(len(ids)) >= self.part.dropped_tokens).numpy()
        kept[[0, -1]] = True
        seen: Ids = ids[kept]
        return seen

    def _vectors(self, ids: Sequence[Ids]) -> Tensor:
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        size = -(-len(order) // _CHUNKS)
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        found = torch.cat([_pooled(self.model, [ids[at] for at in part]) for part in parts])
        return found[torch.argsort(torch.tensor(order))]

    def _read(self, ids: Sequence[Ids]) -> Tensor:
        return torch.cat([_pooled(self.model, ids[at : at + _JUDGED]) for at in range(0, len(ids), _JUDGED)])


def _pooled(model: Any, ids: Sequence[Ids]) -> Tensor:
    # As the graph does it for a folder that says nothing: the mean over tokens, of length 1.
    ids_BT, lengths_B = (torch.from_numpy(one) for one in padded(ids))
    mask_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    states_BTD = model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
    pooled_BD = (states_BTD * mask_BT[..., None]).sum(1) / lengths_B[:, None]
    return nn.functional.normalize(pooled_BD, dim=-1)


def _new_model(part: TrainedSmallPart, vocab_size: int) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=part.width,
        num_hidden_layers=part.layers,
        num_attention_heads=part.width // HEAD_WIDTH,
        intermediate_size=2 * part.width,
        max_position_embeddings=part.max_tokens,
        type_vocab_size=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(part.seed)
        model: Any = BertModel(config, add_pooling_layer=False)
        embeddings = model.embeddings
        nn.init.normal_(embeddings.word_embeddings.weight, std=_WORD_SCALE)
        nn.init.normal_(embeddings.position_embeddings.weight, std=_PLACE_SCALE)
        nn.init.zeros_(embeddings.token_type_embeddings.weight)
    return model


def _vocabulary(teaching: Teaching) -> list[str]:
    return [one.text for one in teaching.texts]


def _numbers(names: Iterable[str]) -> npt.NDArray[np.int64]:
    known: dict[str, int] = {}
    numbers = [known.setdefault(name, len(known)) if name else -1 for name in names]
    return np.array(numbers, np.int64)
