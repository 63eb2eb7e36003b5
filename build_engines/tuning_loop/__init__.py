"""The loop that trains anything: what is learnt is a ``Learner``'s business, who takes part a ``Crew``'s.

The decision not to undo: the randomness of a step is derived from (seed, step, rank) alone, so a run that was killed and goes
on from its checkpoint ends with the same bits as one that was not (same machine, thread count and settings).

Units: steps are updates of the weights; losses are nats; times are seconds.
"""

from build_engines.tuning_loop.crew import Alone, Crew
from build_engines.tuning_loop.learner import Learner, check_activations, weight_of
from build_engines.tuning_loop.loop import run_loop
from build_engines.tuning_loop.options import FACTOR, LoopOptions, LossPoint, Schedule, TuningResult
from build_engines.tuning_loop.plan import Plan, plan_epoch
from build_engines.tuning_loop.precision import Precision, check_precision, has_bfloat16, precision_note
from build_engines.tuning_loop.state import CheckpointDamaged, RunState, copied, load_state
from build_engines.tuning_loop.stops import TuningDiverged

__all__ = [
    "FACTOR",
    "Alone",
    "CheckpointDamaged",
    "Crew",
    "Learner",
    "LoopOptions",
    "LossPoint",
    "Plan",
    "Precision",
    "RunState",
    "Schedule",
    "TuningDiverged",
    "TuningResult",
    "check_activations",
    "check_precision",
    "copied",
    "has_bfloat16",
    "load_state",
    "plan_epoch",
    "precision_note",
    "run_loop",
    "weight_of",
]
