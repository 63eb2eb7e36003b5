"""What training of intents says about its result.

Units: seconds; losses are nats.
"""

from __future__ import annotations

import msgspec


class IntentFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One set, judged.

    Attributes:
        name: "validation", "test", and one for each language that the examples name.
        texts: about an intent.
        outside: about none.
        unread: that hold nothing the encoder can read; they count as wrong, or as out of scope where they are.
        accuracy, accuracy_low, accuracy_high: share right whatever the confidence, with its 95 % interval.
        macro_f1, ece: see ``figures``.
        coverage: texts about an intent at or above the threshold.
        answered_accuracy: of those; 0 where there are none.
        out_answered: texts about none that get an intent.
    """

    name: str
    texts: int
    outside: int
    unread: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    ece: float
    coverage: float
    answered_accuracy: float
    out_answered: float


class IntentsRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it went.

    Attributes:
        method: "linear" or "full".
        checkpoint: absolute path of the encoder to package; empty: ``checkpoint`` of this stage's folder.
        labels: in the order of the head.
        train, validation, test: texts.
        l2: strength of the linear head.
        temperature, threshold: as in ``intents.json``.
        epochs: of fine-tuning that ran (0: none).
        suspects: examples whose label looks wrong.
        figures: by set.
        seconds: of training.
        notes: what was found and done, a sentence each.
    """

    method: str
    checkpoint: str
    labels: tuple[str, ...]
    train: int
    validation: int
    test: int
    l2: float
    temperature: float
    threshold: float
    epochs: float
    suspects: int
    figures: tuple[IntentFigures, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def of(self, name: str) -> IntentFigures:
        """Figures of a set."""
        return next(one for one in self.figures if one.name == name)
