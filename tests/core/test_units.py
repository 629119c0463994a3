"""Sizes and durations are read in one place, and what the package shows is read back."""

import pytest
from builders import METRICS
from hypothesis import given
from hypothesis import strategies as st

from autoopt import targets
from autoopt.core import budgets, units
from autoopt.core.formatting import duration
from autoopt.core.metrics import show_bytes
from autoopt.errors import ConfigError

GIGABYTES = ("4GB", "4 GB", "4 gb", "4e9", "4.0e9 B", "4,000 MB", "4_000MB", " 4000000000 ", "4000000KB")
HOURS = ("1.5h", "1 h 30 min", "90 min", "90min", "5400 s", "5400s", "1h30min", "1 H 30 MIN", "1 h 29 min 60 s")


@pytest.mark.parametrize("text", [*GIGABYTES, 4e9, 4_000_000_000])
def test_a_size_is_a_number_with_its_unit(text: object) -> None:
    assert units.size("here", text) == 4e9


@pytest.mark.parametrize("text", GIGABYTES)
def test_a_size_means_the_same_everywhere(text: str) -> None:
    assert budgets.parse(f"size_bytes <= {text}", METRICS).bound(None) == 4e9
    assert budgets.from_short_forms(METRICS, "accuracy", max_size=text)[0].bound(None) == 4e9
    assert targets.find(f"micro:{text}").budgets == ("memory_bytes <= 4000000000",)


@pytest.mark.parametrize("text", HOURS)
def test_a_duration_means_the_same_everywhere(text: str) -> None:
    assert units.seconds("here", text) == 5400
    assert budgets.parse(f"latency_ms <= {text}", METRICS).bound(None) == 5_400_000


@pytest.mark.parametrize(
    "text", ["", "GB", "4 XB", "4 GB 3", "4 GB GB", "-4 GB", "0", "0 GB", "nan", "inf GB", "1e400", "1e308 GB", "4 s", "4 4", None, True,
             [4], "9" * 10**6, 10**4000, "1,5 GB"]
)  # fmt: skip
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match=r"^here: expected a size such as '4 GB', got ") as caught:
        units.size("here", text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text", ["", "h", "4", 4, "4 GB", "4 h h", "-4 h", "0 s", "nan", "30 min 1 h", "1 h 1 h", "1e400 s", "1:30", None, True, "9" * 10**6, "9" * 90 + "h" * 9]
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match=r"^here: expected a duration such as '30 min', got "):
        units.seconds("here", text)


def test_a_bare_number_means_what_who_asks_says() -> None:
    assert units.seconds("here", "8", bare="h") == 28800
    assert units.size("here", "60", tiny=True) == 60
    with pytest.raises(ConfigError, match="got 60: of what\\? Write '60 KB', or '60 B'"):
        units.size("here", 60)


@given(st.floats(1, 1e15))
def test_a_size_that_is_shown_is_read_back(size: float) -> None:
    assert units.size("here", show_bytes(size)) == pytest.approx(size, rel=6e-4, abs=0.5)


@given(st.integers(1, 10**7))
def test_a_duration_that_is_shown_is_read_back(seconds: int) -> None:
    assert units.seconds("here", duration(seconds)) == pytest.approx(seconds, abs=60 if seconds >= 3600 else 0)


@given(st.floats(1e-6, 1e9), st.sampled_from(["latency_ms", "size_bytes", "latency_ratio", "accuracy", "mae"]))
def test_a_limit_as_it_is_shown_is_a_budget(value: float, name: str) -> None:
    metric = METRICS[name]
    if metric.unit == "B":
        value = max(value, 1.0)
    limit = budgets.parse(f"{name} <= {metric.show(value)}", METRICS, stored=True).bound(None)
    assert limit == pytest.approx(
        value, rel=6e-3, abs=0.5 if metric.unit == "B" or (metric.unit == "ms" and value > 100) else 1e-4
    )


@given(st.sampled_from(sorted(units.BYTES)), st.integers(1, 10**6), st.sampled_from(["", " ", "  "]))
def test_every_unit_of_size_in_any_case(unit: str, count: int, space: str) -> None:
    for written in (unit, unit.upper(), unit.title()):
        assert units.size("here", f"{count}{space}{written}") == count * units.BYTES[unit]
