"""A re-ranker from a log and a published recommender to a version that the server loads."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.__main__ import main
from build_engines.data.sequences import Sequences
from build_engines.data.splits import SplitRule
from build_engines.rerank.candidates import GATE, read_lists
from build_engines.rerank.features import list_rows
from build_engines.rerank.verify import list_values
from build_engines.shop_files import read_shop
from server.artifacts.repository import OpenedVersion, open_current
from server.encoding.rerank_features import FeatureDeclaration
from server.pipelines.rerank import RerankAsk
from server.pipelines.rerank_loading import FEATURES_FILE, load_features, load_reranker
from tests.build_engines.mini_shop import RECIPE as FIRST_STAGE

RECIPE = """kind = "rerank"
[model]
name = "mini-rerank"
[first_stage]
model = "mini"
candidates = 25
[data.sample_shop]
num_products = 80
num_users = 1500
[features]
attributes = ["category", "brand", "colour"]
item_buckets = 64
attribute_buckets = 32
cross_buckets = 64
[network]
architecture = "dlrm"
dim = 8
hidden = [32, 16]
[train]
epochs = 3
[quantize]
precision = "int8"
least_weights = 128
[serve]
max_batch = 200
[gate]                      # a shop of this size decides little; what is tested here is the line
batch_sizes = [25]
max_metric_loss = 0.9
max_error = 0.9
max_size_ratio = 1.5
min_speedup = 0.01
rounds = 10
"""


class Built:
    """What the line left."""

    def __init__(self, folder: Path, workspace: Path) -> None:
        self.repository, self.workspace, self.recipe = (
            folder / "repository",
            workspace,
            folder / "rerank.toml",
        )

    def run(self, *sets: str, recipe: Path | None = None) -> int:
        arguments = ["run", str(recipe or self.recipe), "--plain", "--workspace", str(self.workspace)]
        arguments += ["--repository", str(self.repository)]
        return main([*arguments, *(part for one in sets for part in ("--set", one))])

    def opened(self) -> OpenedVersion:
        return open_current(self.repository, "mini-rerank")


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory, shared_workspace: Path) -> Built:
    """The mini shop's recommender, published."""
    from unittest import mock

    from build_engines import train
    from tests.build_engines.mini_shop import served_mix

    folder = tmp_path_factory.mktemp("rerank")
    built = Built(folder, shared_workspace)
    first = folder / "first.toml"
    first.write_text(FIRST_STAGE.replace("num_users = 300", "num_users = 1500"), encoding="utf-8")
    built.recipe.write_text(RECIPE, encoding="utf-8")
    with mock.patch.object(train, "tune_mix", served_mix):
        assert built.run("quantize.precision=fp32", recipe=first) == 0
    return built


@pytest.fixture(scope="module")
def built(first_stage: Built) -> Built:
    """The re-ranker behind it: 1,500 shoppers decide that it has a lead."""
    assert first_stage.run() == 0
    return first_stage


def test_a_log_and_a_recommender_become_a_second_stage_with_its_proof(built: Built) -> None:
    """The version declares its hashing, proves its lead over the first stage, and is loaded as the server does it."""
    manifest = built.opened().manifest
    declared = msgspec.json.decode(
        (built.opened().folder / FEATURES_FILE).read_bytes(), type=FeatureDeclaration
    )

    assert manifest.task == "reranking" and manifest.targets[0].precision == "int8"
    assert manifest.limits == {"max_batch": 200, "max_candidates": 25, "max_history": 20}
    assert manifest.parameters["hash_salt"] == 1 and manifest.parameters["buckets.colour"] == 32
    assert declared.parameters() == manifest.parameters
    floor = next(item for item in manifest.evidence if item.kind == "floor")
    assert floor.interval is not None and floor.interval[1] < 0, "the lead is certain"
    assert {item.kind for item in manifest.evidence} == {"parity", "quality", "speed", "size", "floor"}
    assert manifest.provenance.data["first_stage"] == "mini version 1"
    assert manifest.figures.keys() >= {"ndcg@10", "auc", "log_loss"}


def test_the_server_makes_the_features_that_training_made(built: Built) -> None:
    """Bit by bit, of every list that the gate judged, from the published version's own tables."""
    opened = built.opened()
    features = load_features(opened)
    # Other tests may have left results of other logs in this workspace.
    logs = [one for one in (built.workspace / "load").glob("[!.]*") if len(read_shop(one).catalogue) == 80]
    cases, arrays = next(
        (cases, lists)
        for cases in (read_shop(one).split(SplitRule()).gate for one in logs)
        for lists in (read_lists(one, GATE) for one in (built.workspace / "rerank-candidates").glob("[!.]*"))
        if lists["rows_CR"].shape == (len(cases), 25)
    )
    (trained,) = (one for one in (built.workspace / "rerank-train").glob("[!.]*"))
    with np.load(trained / "gate.npz") as gate:
        wanted, lists = gate["dense"], gate["label.list"]

    made = list_rows(features, cases.histories, arrays["rows_CR"], arrays["scores_CR"])

    kept = np.isin(np.broadcast_to(np.arange(len(cases))[:, None], arrays["rows_CR"].shape), lists)
    assert np.array_equal(made.dense_RF[kept[arrays["rows_CR"] > 0]], wanted)


def test_ids_that_the_re_ranker_does_not_know_are_ranked_all_the_same(built: Built) -> None:
    """A recommender may have newer items; they have no attributes here, and no request fails for them."""
    runner = load_reranker(built.opened()).runner
    known = runner.features.index.ids[1:4]
    asks = [
        RerankAsk((), ("new-1", *known), (4.0, 3.0, 2.0, 1.0)),
        RerankAsk(("new-2",), known, (3.0, 2.0, 1.0)),
    ]

    answers = runner.unpack(packed := runner.pack(asks), runner.run(packed), asks)

    assert [sorted(one.order) for one in answers] == [[0, 1, 2, 3], [0, 1, 2]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "sentence", "code"),
    [
        ("first_stage.model=nobody", "no model 'nobody'", 5),
        ('first_stage.version="7"', "version 7 cannot be read", 5),
        ("first_stage.candidates=31", "gives 30 items at most", 1),
        ('features.attributes=["colour","smell"]', "has 'smell', no column of the item data", 1),
        ("data.sample_shop.seed=8", "was built from another", 1),
        ("split.salt=other", "divided the log otherwise", 1),
        ("gate.first_metric=auc", "use one of ranks", 2),
        ("gate.first_metric=ndcg@25", "there would be nothing to rank", 2),
        ("network.architecture=transformer", "architecture", 2),
    ],
)
def test_what_does_not_go_together_is_a_sentence(
    first_stage: Built, capsys: pytest.CaptureFixture[str], setting: str, sentence: str, code: int
) -> None:
    """A first stage that has seen what the re-ranker would be judged by is refused, and so is what is not there."""
    capsys.readouterr()

    assert first_stage.run(setting) == code
    assert sentence in capsys.readouterr().err


def test_a_re_ranker_that_does_not_beat_the_first_stage_is_refused(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that learnt nothing ranks by chance; the figure says so, and nothing is published."""
    version = built.opened().manifest.version
    capsys.readouterr()

    assert built.run("train.learning_rate=1e-12", "train.epochs=1") == 4
    said = capsys.readouterr().err
    assert (
        "relative loss of ndcg@10 to the first stage's own order" in said
        and "costs time and brings nothing" in said
    )
    assert built.opened().manifest.version == version


@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_first_stages_order_as_logits_gains_and_loses_nothing(count: int, seed: int) -> None:
    """Whoever ranks as the first stage did gets its very figure, case by case."""
    own = np.random.default_rng(seed)
    rows_CR = np.stack([own.permutation(np.arange(1, 13)) for _ in range(count)]).astype(np.int32)
    targets_C = own.integers(1, 20, count)
    found_C = (rows_CR == targets_C[:, None]).any(axis=1)
    arrays = {"rows_CR": rows_CR, "targets_C": targets_C, "scores_CR": np.zeros(rows_CR.shape)}
    logits = np.tile(-np.arange(12.0), int(found_C.sum()))
    lists = np.repeat(np.flatnonzero(found_C), 12)

    first, second = list_values("ndcg@10", arrays, logits, lists)
    _, equal = list_values("ndcg@10", arrays, np.zeros_like(logits), lists)

    assert np.array_equal(first, second)
    assert not equal.any()  # twelve ties: the right item may be the last of them


def test_lists_without_candidates_have_no_rows(built: Built) -> None:
    """A first stage that gives fewer items than asked for is not filled up with anything."""
    features = load_features(built.opened())
    rows_CR = np.array([[3, 5, 0], [0, 0, 0], [7, 0, 0]], np.int32)

    made = list_rows(features, Sequences.of([[1], [2], [3, 4]]), rows_CR, np.ones((3, 3), np.float32))

    assert len(made.dense_RF) == len(made.sparse_RS) == 3
