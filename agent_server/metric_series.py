"""What numbers are gathered in: counters and histograms whose number of series is bounded.

They are plain objects for one thread, the event loop's: a number costs a look-up and an addition,
no lock and no child of `prometheus_client`, which knows them only when they are read.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

OTHER: Final = "other"


class Histogram:
    """Observations counted by the least of `bounds`, in ascending order, that holds them."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Write what was observed, if anything was, into a family, with cumulative buckets."""
        if not any(self._counts):
            return
        names = (*map(str, self._bounds), "+Inf")
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        family.add_metric(labels, buckets, self._sum)


class LabelledCounter:
    """A counter for each set of labels, at most `max_series`; the rest counts under `other`."""

    __slots__ = ("_help", "_labels", "_max_series", "_name", "_values")

    def __init__(self, name: str, text: str, *labels: str, max_series: int = 64) -> None:
        self._name = name
        self._help = text
        self._labels = labels
        self._max_series = max_series
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count for a set of labels."""
        values = self._values
        if labels not in values:
            if len(values) >= self._max_series:
                labels = (OTHER,) * len(labels)
            values.setdefault(labels, 0)
        values[labels] += amount

    def collect(self) -> Iterator[Metric]:
        """The counter as Prometheus reads it."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in self._values.copy().items():
            family.add_metric(labels, value)
        yield family


class LabelledHistogram:
    """A histogram for each value of one label, at most `max_series`; the rest is `other`."""

    __slots__ = ("_bounds", "_help", "_label", "_max_series", "_name", "_values")

    def __init__(
        self, name: str, text: str, label: str, bounds: Sequence[float], *, max_series: int = 16
    ) -> None:
        self._name = name
        self._help = text
        self._label = label
        self._bounds = bounds
        self._max_series = max_series
        self._values: dict[str, Histogram] = {}

    def observe(self, label: str, value: float) -> None:
        """Count one observation for a value of the label."""
        found = self._values.get(label)
        if found is None:
            if len(self._values) >= self._max_series:
                label = OTHER
            found = self._values.setdefault(label, Histogram(self._bounds))
        found.observe(value)

    def collect(self) -> Iterator[Metric]:
        """The histogram as Prometheus reads it."""
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label])
        for label, histogram in self._values.copy().items():
            histogram.add_to(family, [label])
        yield family
