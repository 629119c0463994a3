"""Strategies of records that make sense, for tests of what writes and reads them."""

import base64

from builders import recipes
from hypothesis import strategies as st

from autoopt.core.candidate import Candidate, Confirmation, Skipped
from autoopt.core.metrics import INTERVAL, RANGE, RESIDENT, Measurement

positive = st.floats(0, 1e300)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=10)


@st.composite
def measurements(draw, items=None):
    low, value, high = sorted(draw(st.tuples(positive, positive, positive)))
    return Measurement(
        value=value,
        low=low,
        high=high,
        n=draw(st.integers(1, 10**6)) if items is None else items,
        how=draw(texts | st.just(f"{RESIDENT}, load and one run")),
        flags=tuple(draw(st.lists(texts, max_size=2))),
        ends=draw(st.sampled_from([INTERVAL, RANGE])),
    )


named = st.dictionaries(st.sampled_from(["accuracy", "latency_ms", "size_bytes"]), measurements())
resamples = st.lists(st.none() | finite, max_size=5).map(tuple)
classes = st.lists(st.tuples(st.integers(0, 50), st.integers(50, 100)), max_size=4).map(tuple)
outcomes = st.binary(min_size=3, max_size=3).map(lambda packed: base64.b64encode(packed).decode()) | st.just("")
confirmations = st.builds(
    Confirmation,
    quality=measurements(items=20),
    outcomes=outcomes,
    resamples=resamples,
    classes=classes,
    searched=named,
)
proofs = st.fixed_dictionaries(
    {},
    optional={
        "ops": st.dictionaries(texts, st.integers(0, 9), max_size=2),
        "integer_share": st.floats(0, 1),
        "kept": texts,
    },
)
stages = st.fixed_dictionaries(
    {"stage": texts}, optional={"best_epoch": st.integers(1, 9), "epochs": st.lists(st.just({"loss": 0.5}), max_size=2)}
)
candidates = st.builds(
    Candidate,
    number=st.integers(0, 10**6),
    recipe=recipes,
    origin=st.sampled_from(["baseline", "scheme", "search"]),
    measurements=named,
    proof=proofs,
    report=st.lists(stages, max_size=2).map(tuple),
    file=texts, sha256=texts, outcomes=outcomes,
    resamples=resamples, classes=classes,
    confirmation=st.none() | confirmations,
    refused=texts, failed_stage=texts, reason=texts,
    seconds=st.floats(0, 1e6), seconds_saved=st.floats(0, 1e6),
)  # fmt: skip
skips = st.builds(
    Skipped,
    number=st.integers(0, 10**6),
    recipe=recipes,
    origin=st.sampled_from(["corner", "search"]),
    kind=st.sampled_from(["dominated", "over budget"]),
    reason=texts,
    point=st.none() | st.tuples(texts, st.sampled_from(["begun", "done"])),
    score=st.none() | finite,
    seconds=st.floats(0, 1e6),
)
