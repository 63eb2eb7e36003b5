"""A sentence encoder as the steps see it: transformers' vectors, any cut, the graph's vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from build_engines.compression.families.encoder import Encoder, open_encoder
from build_engines.compression.families.encoder_texts import UNLABELLED, TextData, Texts, read_NE
from build_engines.compression.model import Keep
from build_engines.errors import BuildError
from build_engines.intents.vectors import EncoderSource, encoder_graph
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.network import load_network
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import package_encoder, resolved_form
from tests.build_engines.encoder_models import FAMILIES, VOCAB, random_model, save_checkpoint


def texts(count: int, seed: int) -> tuple[Ids, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        np.array([2, *rng.integers(4, VOCAB, rng.integers(1, 12)), 3], np.int64) for _ in range(count)
    )


def opened(folder: Path, *, intents: bool = False) -> Encoder:
    _, form = resolved_form(folder, EncoderOptions(variant="fp32"))
    learn = texts(60, 1)
    labels = np.array([int(ids[1]) % 3 for ids in learn]) if intents else np.full(60, UNLABELLED)
    data = TextData(
        checkpoint=folder,
        form=form,
        learn=Texts(ids=learn, labels_N=labels),
        calibration=texts(10, 2),
        intents=3 if intents else 0,
    )
    return open_encoder(folder, data)


def served(folder: Path, asked: tuple[Ids, ...]) -> np.ndarray:
    source = EncoderSource(checkpoint=folder, options=EncoderOptions(variant="fp32"))
    session = ort.InferenceSession(encoder_graph(source), providers=["CPUExecutionProvider"])
    ids_BT, lengths_B = padded(asked)
    (found,) = session.run(["embedding"], {"input_ids": ids_BT, "lengths": lengths_B})
    return np.asarray(found)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "multilingual-e5"])
def test_the_network_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    """The parameters have the checkpoint's names, and the arithmetic is the family's own."""
    model = random_model(name)
    network = load_network(save_checkpoint(model, tmp_path)).eval()
    ids_BT, lengths_B = (torch.from_numpy(one) for one in padded(texts(6, 3)))
    mask_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]

    with torch.no_grad():
        wanted = model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
        found = network(ids_BT, lengths_B)

    torch.testing.assert_close(found[mask_BT], wanted[mask_BT], atol=2e-5, rtol=1e-4)
    assert set(network.state_dict()) <= set(model.state_dict())


CUTS = {
    "nothing": Keep(),
    "heads": Keep(heads=((0, 3), (1, 2))),
    "inner": Keep(inner=(tuple(range(0, 128, 3)),) * 2),
    "width": Keep(dims=tuple(range(0, 64, 2))),
    "blocks": Keep(blocks=(1,)),
    "rows": Keep(rows=np.r_[0:40]),
    "all": Keep(
        blocks=(1,), heads=((2,),), inner=(tuple(range(24)),), dims=tuple(range(8, 40)), rows=np.r_[0:30]
    ),
}


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("cut", list(CUTS))
def test_a_narrowed_encoder_serves_what_it_computes_in_training(
    family: str, cut: str, tmp_path: Path
) -> None:
    """Whatever was cut, the packaged graph gives the smaller network's vectors, and it comes back bit for bit."""
    model = opened(save_checkpoint(random_model(family), tmp_path / "whole"))
    small = model.narrowed(CUTS[cut])
    small.save(tmp_path / "small")
    asked = texts(7, 5)

    found = served(tmp_path / "small", asked)
    again = open_encoder(tmp_path / "small", model.data)

    wanted = read_NE(small.network, asked, small.data.form).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert again.sizes == small.sizes and again.identity == small.identity
    for name, one in small.module.state_dict().items():
        assert torch.equal(one, again.module.state_dict()[name])


def test_a_narrowed_encoder_packages_in_int8_with_all_kernels(tmp_path: Path) -> None:
    """Heads that do not fill the width, and shared word rows, keep every integer kernel."""
    model = opened(save_checkpoint(random_model("bert"), tmp_path / "whole"))
    small = model.narrowed(CUTS["all"])
    small.save(tmp_path / "small")

    package = package_encoder(
        tmp_path / "small",
        tmp_path / "made",
        options=EncoderOptions(variant="int8"),
        calibration=list(texts(20, 6)),
    )

    weights = sum(one.numel() for one in small.module.parameters())
    assert package.precision == "int8" and package.parameters == weights
    assert package.limits["vocab_size"] == VOCAB and package.limits["dim"] == 32


def test_a_cut_encoder_learns_back_to_the_vectors_that_it_gave(tmp_path: Path) -> None:
    """Learning brings a narrowed encoder nearer to its own vectors, the intents' head with it."""
    model = opened(save_checkpoint(random_model("bert"), tmp_path), intents=True)
    small = model.narrowed(Keep(inner=(tuple(range(64)),) * 2, heads=((0, 1, 2), (1, 2, 3))))
    optimizer = torch.optim.AdamW(small.module.parameters(), lr=1e-3)
    before = small.judge()
    for epoch in range(15):
        for batch in small.plan(epoch).batches:
            optimizer.zero_grad()
            small.loss(batch).backward()
            optimizer.step()
    traces = small.traces([0, 1, 2])
    assert small.judge() < before
    assert traces.logits_PC is not None and traces.logits_PC.shape == (3, 3)
    assert [len(one.shape) for one in traces.hidden_BTD] == [3, 3, 3]
    assert traces.relations["q"].shape[1] == 3
    assert len(small.plan(4).batches) == len(small.plan(0).batches)


def test_an_encoder_without_texts_to_learn_from_says_so(tmp_path: Path) -> None:
    """Too few texts are refused with the setting that gives more."""
    folder = save_checkpoint(random_model("bert"), tmp_path)
    _, form = resolved_form(folder, EncoderOptions(variant="fp32"))
    data = TextData(
        checkpoint=folder,
        form=form,
        learn=Texts(ids=texts(3, 1), labels_N=np.full(3, UNLABELLED)),
        calibration=texts(10, 2),
    )
    with pytest.raises(BuildError, match=r"3 texts are left to learn from.*max_calibration_texts"):
        open_encoder(folder, data)
