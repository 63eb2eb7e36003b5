"""Copy that was written already, found by what it was written from: bounded in bytes and in age, the longest unused goes first.

The key holds everything that an answer depends on, the record, what was asked and the versions of whatever writes and
checks, so nothing in here is ever wrong, only old. One event loop; not thread-safe. Units: seconds on the injected clock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.copy_domain import CopyAnswer, CopyRequest, Value

_CLAIM_BYTES, _VARIANT_BYTES, _ENTRY_BYTES = 500, 800, 1200  # what Python's objects weigh around the text
_CHAR_BYTES = 2
_NOT_CONTENT = frozenset({"deadline_s", "fresh", "product"})


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer with its age.

    Attributes:
        age_s: since it was written.
        ttl_s: until it is too old.
    """

    answer: CopyAnswer
    age_s: float
    ttl_s: float


class CopyCache:
    """Answers by key.

    Attributes:
        bytes_held: an estimate of the memory that they take.
    """

    def __init__(self, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty.

        Args:
            max_bytes: of all answers together; 0: nothing is kept.
            max_age_s: older ones are not given (> 0).
            clock: monotonic seconds.
        """
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._entries: OrderedDict[str, tuple[CopyAnswer, float, int]] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Cached | None:
        """The answer, if it is there and young enough."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        answer, written_s, _ = entry
        age_s = max(0.0, self._clock() - written_s)
        if age_s >= self._max_age_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return Cached(answer, age_s, self._max_age_s - age_s)

    def put(self, key: str, answer: CopyAnswer) -> bool:
        """Keep an answer; False if it is larger than the whole cache may be."""
        size = _size_bytes(answer)
        if key in self._entries:
            self._drop(key)
        if size > self._max_bytes:
            return False
        self._entries[key] = (answer, self._clock(), size)
        self.bytes_held += size
        while self.bytes_held > self._max_bytes:
            self._drop(next(iter(self._entries)))
        return True

    def _drop(self, key: str) -> None:
        _, _, size = self._entries.pop(key)
        self.bytes_held -= size


def content_key(request: CopyRequest, versions: Sequence[str]) -> str:
    """What an answer is found by; the same for requests that ask for the same, whatever their deadline."""
    product = request.product
    asked = {
        spec.name: getattr(request, spec.name)
        for spec in dataclasses.fields(request)
        if spec.name not in _NOT_CONTENT
    }
    record = {spec.name: getattr(product, spec.name) for spec in dataclasses.fields(product)}
    # The order of attributes is content: a prompt that is full leaves the last ones out.
    record["attributes"] = [(name, _typed(value)) for name, value in product.attributes.items()]
    record["price"] = None if product.price is None else float(product.price)
    text = json.dumps([asked, record, list(versions)], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _typed(value: Value) -> object:
    return [_typed(entry) for entry in value] if isinstance(value, tuple) else value


def _size_bytes(answer: CopyAnswer) -> int:
    size = _ENTRY_BYTES
    for variant in answer.variants:
        size += _VARIANT_BYTES + _CHAR_BYTES * sum(len(text) for _, text in variant.text.parts())
        for claim in (*variant.claims, *variant.refused):
            size += _CLAIM_BYTES + _CHAR_BYTES * (len(claim.text) + len(claim.quote))
    return size
