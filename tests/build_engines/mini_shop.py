"""A recipe for a shop of 80 products that is built in seconds, and the mix that it is given."""

from __future__ import annotations

from build_engines.models.mix import MixConfig, MixRow, TunedMix

RECIPE = """
[model]
name = "mini"
[data.sample_shop]
num_products = 80
num_users = 300
[network]
dim = 16
length = 20
[train]
epochs = 1
[mix]
gammas = [1.0]
kappas = [8.0]
windows = [3]
decays = [0.7]
[export]
max_k = 30
max_batch = 8
[gate]                      # a shop of this size decides nothing; what is tested here is the line
batch_sizes = [1, 8]
max_relative_loss = 0.9
max_slice_loss = 0.9
min_speedup = 0.01
min_overlap = 0.5
rounds = 10
allow_below_floor = true
footprint = false           # a process an engine; test_proof_line has it
"""


def served_mix(*arguments: object, **options: object) -> TunedMix:
    """In place of ``tune_mix``: 300 users choose no mix that means anything."""
    best = MixRow(MixConfig(gamma=1.0, window=3), 0.2, 0.1)
    counts = MixRow(MixConfig(neural_weight=0.0, window=3), 0.1, 0.05)
    return TunedMix(best=best, neural=counts, counts=counts)
