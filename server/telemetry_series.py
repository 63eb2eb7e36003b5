"""Series that cost an append on the hot path and are folded when somebody looks.

``observe`` of a Prometheus histogram takes a lock and walks the buckets, a few microseconds per call and several calls
per request. Here the hot path appends to a plain list, and ``collect`` folds the list into bucket counts with numpy.

Why no lock guards the append: ``list.append``, ``buf[:n]`` and ``del buf[:n]`` are each one step under the
interpreter lock, appends only ever go behind position n, and floats run no code of ours when they are freed. So a
folding thread that first copies ``buf[:n]`` and then deletes the same n entries loses none that came in between. Two
folding threads would count twice, so folding itself takes a lock, which the hot path never touches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]


class Histograms:
    """One histogram family: a buffer for each set of label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self.name = name
        self._about = about
        self._label_names = tuple(labels)
        self._edges = np.asarray(buckets, np.float64)
        self._bounds = [*(f"{edge:g}" if edge < 1 else f"{float(edge)}" for edge in buckets), "+Inf"]
        self._buffers: dict[Labels, list[float]] = {}
        self._counts: dict[Labels, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def buffer(self, labels: Labels) -> list[float]:
        """The list to append observations to; the same list for the life of this object."""
        return self._buffers.setdefault(labels, [])

    def observe(self, labels: Labels, value: float) -> None:
        """Record one value."""
        try:
            self._buffers[labels].append(value)
        except KeyError:
            self.buffer(labels).append(value)

    def fold(self) -> None:
        """Move what was appended into the bucket counts; bounded memory needs this now and then."""
        with self._lock:
            for labels, buffer in list(self._buffers.items()):
                n = len(buffer)
                if n == 0 and labels in self._counts:
                    continue
                values = np.asarray(buffer[:n], np.float64)
                del buffer[:n]
                # side="left": a value equal to an edge belongs to that edge's bucket ("le" is inclusive).
                found = np.bincount(
                    np.searchsorted(self._edges, values, side="left"), minlength=len(self._edges) + 1
                )
                self._counts[labels] = self._counts.get(labels, 0) + found.astype(np.int64)
                self._sums[labels] = self._sums.get(labels, 0.0) + float(values.sum())

    def collect(self) -> Iterable[Metric]:
        """Fold, then give one family."""
        self.fold()
        family = HistogramMetricFamily(self.name, self._about, labels=self._label_names)
        with self._lock:
            for labels, counts in self._counts.items():
                running = np.cumsum(counts)
                buckets = [(bound, float(n)) for bound, n in zip(self._bounds, running, strict=True)]
                family.add_metric(labels, buckets, self._sums[labels])
        yield family


class Counters:
    """One counter family; counted on the event-loop thread only, read from any."""

    def __init__(self, name: str, about: str, labels: Sequence[str], known: Iterable[Labels] = ()) -> None:
        self._name = name
        self._about = about
        self._label_names = tuple(labels)
        self._values: dict[Labels, int] = {labels: 0 for labels in known}

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count."""
        self._values[labels] = self._values.get(labels, 0) + count

    def collect(self) -> Iterable[Metric]:
        """Give one family; series that are known from the start show as 0 so that a rate of them exists."""
        family = CounterMetricFamily(self._name, self._about, labels=self._label_names)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, float(value))
        yield family


class Gauges:
    """One family whose values are asked for at the scrape, gauges or ``counts``; a source that fails is left out."""

    def __init__(self, name: str, about: str, labels: Sequence[str], *, counts: bool = False) -> None:
        self._family = CounterMetricFamily if counts else GaugeMetricFamily
        self._name = name
        self._about = about
        self._label_names = tuple(labels)
        self._sources: dict[str, Callable[[], Iterable[tuple[Labels, float]]]] = {}

    def source(self, key: str, read: Callable[[], Iterable[tuple[Labels, float]]]) -> None:
        """Ask ``read`` at each scrape, on the scraping thread; the same key replaces."""
        self._sources[key] = read

    def collect(self) -> Iterable[Metric]:
        """Give one family."""
        family = self._family(self._name, self._about, labels=self._label_names)
        for read in list(self._sources.values()):
            try:
                samples = list(read())
            except Exception:  # a scrape must not fail because one engine is being replaced just now
                continue
            for labels, value in samples:
                family.add_metric(labels, value)
        yield family
