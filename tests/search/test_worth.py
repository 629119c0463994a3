"""What is followed up: models that still do their work, and schemes that have something over the others."""

import pytest
from builders import candidate, failed, measured, results

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Prune, Quantize
from autoopt.search import worth

BASE = candidate(0, "baseline", accuracy=0.9, latency_ms=2.0, compressed_bytes=100)


@pytest.mark.parametrize(("accuracy", "broken"), [(0.9, False), (0.82, False), (0.8, True), (0.95, False)])
def test_without_a_budget_a_tenth_of_the_quality_may_go(accuracy: float, broken: bool) -> None:
    one = candidate(1, accuracy=accuracy, latency_ms=1.0, compressed_bytes=10)
    assert worth.broken(one, results(BASE, one)) is broken


@pytest.mark.parametrize(("mae", "broken"), [(2.0, False), (2.4, False), (2.6, True), (1.0, False)])
def test_of_an_error_a_quarter_more_may_come(mae: float, broken: bool) -> None:
    base, one = candidate(0, "baseline", mae=2.0), candidate(1, mae=mae)
    assert worth.broken(one, results(base, one, quality="mae", objectives=("mae",))) is broken


@pytest.mark.parametrize(("accuracy", "broken"), [(0.87, True), (0.89, False), (0.7, True)])
def test_a_budget_of_the_quality_says_what_may_go(accuracy: float, broken: bool) -> None:
    one = candidate(1, accuracy=accuracy, latency_ms=9.0, compressed_bytes=10)
    found = results(BASE, one, budgets=["accuracy >= baseline - 2 points", "latency_ms <= 1 ms"])
    assert worth.broken(one, found) is broken


def test_what_failed_is_broken_and_without_a_baseline_nothing_else_is() -> None:
    assert worth.broken(failed(1), results(BASE, failed(1)))
    assert not worth.broken(BASE, results())


def scheme(number: int, name: str, accuracy: float, latency_ms: object, compressed_bytes: float, **parts: object):
    recipe = Recipe(scheme=name, **parts)  # type: ignore[arg-type]
    return candidate(
        number, "scheme", recipe=recipe, accuracy=accuracy, latency_ms=latency_ms, compressed_bytes=compressed_bytes
    )


THREE = ("accuracy", "latency_ms", "compressed_bytes")
FLOAT = scheme(0, "float32", 0.9, 2.0, 100)
HALF = scheme(1, "float16", 0.9, 2.0, 50)
WHOLE = scheme(2, "int8", 0.895, 1.0, 30)


def test_a_scheme_that_another_beats_in_everything_has_no_point() -> None:
    found = results(FLOAT, HALF, WHOLE, objectives=THREE)
    assert worth.paying(["float32", "float16", "int8"], found) == ["int8"]


def test_a_scheme_stays_that_is_better_in_anything_beyond_the_margin() -> None:
    slow = scheme(2, "int8", 0.895, 3.0, 30)
    assert worth.paying(["float32", "int8"], results(FLOAT, slow, objectives=THREE)) == ["float32", "int8"]
    worse = scheme(2, "int8", 0.85, 1.0, 30)
    assert worth.paying(["float32", "int8"], results(FLOAT, worse, objectives=THREE)) == ["float32", "int8"]
    equal = scheme(2, "int8", 0.9, 2.0, 100)
    assert worth.paying(["float32", "int8"], results(FLOAT, equal, objectives=THREE)) == ["float32", "int8"]


def test_readings_within_their_noise_are_equal() -> None:
    noisy = scheme(2, "int8", 0.9, measured(2.1, 0.3), 30)
    assert worth.paying(["float32", "int8"], results(FLOAT, noisy, objectives=THREE)) == ["int8"]
    slower = scheme(2, "int8", 0.9, measured(2.4, 0.3), 30)
    assert worth.paying(["float32", "int8"], results(FLOAT, slower, objectives=THREE)) == ["float32", "int8"]


def test_only_the_untouched_model_tells() -> None:
    pruned = scheme(2, "int8", 0.9, 1.0, 30, prune=Prune(sparsity=0.5))
    kept = scheme(3, "int8", 0.9, 1.0, 30, quantize=Quantize(keep=1))
    assert worth.paying(["float32", "int8"], results(FLOAT, pruned, kept, objectives=THREE)) == ["float32", "int8"]
    assert worth.paying(["int8"], results(FLOAT, objectives=THREE)) == ["int8"]
