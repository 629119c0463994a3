"""Random studies with ties, equal points, failures and candidates that were not fully measured."""

from builders import candidate, failed, measured, results
from hypothesis import strategies as st


@st.composite
def candidates(draw, number):
    """Small whole values, so that ties and equal points are common; some failed, some not fully measured."""
    if draw(st.integers(0, 9)) == 0:
        return failed(number)
    values = {
        "accuracy": draw(st.integers(0, 4)) / 10,
        "size_bytes": draw(st.integers(1, 5)),
        "latency_ms": measured(draw(st.integers(1, 5)), draw(st.sampled_from([0, 0.6]))),
        "compressed_bytes": draw(st.integers(1, 5)),
    }
    for name in draw(st.sets(st.sampled_from(sorted(values)), max_size=1)) if draw(st.booleans()) else ():
        del values[name]
    return candidate(number, spread=0.1, **values)


@st.composite
def studies(draw, budgets=True):
    """Results with a baseline, up to ten candidates and up to three budgets."""
    baseline = candidate(0, "baseline", 0.05, accuracy=0.3, size_bytes=4, latency_ms=3, compressed_bytes=4)
    others = [draw(candidates(n)) for n in range(1, draw(st.integers(1, 11)))]
    limits = ["size_bytes <= 3", "latency_ms <= 2", "accuracy >= baseline - 10%", "size_bytes <= 0.5 * baseline"]
    texts = draw(st.lists(st.sampled_from(limits), unique=True, max_size=3)) if budgets else []
    objectives = draw(st.lists(st.sampled_from(["accuracy", "size_bytes", "latency_ms"]), min_size=1, unique=True))
    return results(baseline, *others, budgets=texts, objectives=objectives)
