"""Small sums over samples. All samples are kept, so nothing is rounded into buckets."""

from collections.abc import Sequence


def quantile(samples: Sequence[float], q: float) -> float:
    """The sample at rank ``q`` (0 to 1), the nearest one above; not a number for no samples."""
    ordered = sorted(samples)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def spread(samples: Sequence[float]) -> dict[str, float]:
    return {"samples": len(samples), "median": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}


def added(through: Sequence[float], direct: Sequence[float]) -> dict[str, dict[str, float]]:
    """Both sides, and the difference at the median and at the 99th percentile."""
    a, b = spread(through), spread(direct)
    return {"direct": b, "gateway": a, "added": {name: a[name] - b[name] for name in ("median", "p99")}}
