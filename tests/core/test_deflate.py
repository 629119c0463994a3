"""The smallest gzip is a gzip like any other, and never larger than `gzip -9`."""

import gzip
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.deflate import smallest_gzip


def few_levels(levels, n=20_000):
    """What weights on few levels look like: no order, and the middle ones far more often."""
    return (
        np.clip(np.round(np.random.default_rng(0).normal(0, levels / 6, n)), -levels // 2, levels // 2)
        .astype(np.int8)
        .tobytes()
    )


@given(data=st.binary(max_size=4000) | st.builds(bytes.__mul__, st.binary(max_size=8), st.integers(0, 3000)))
def test_every_bytes_come_back(data):
    packed = smallest_gzip(data)
    assert gzip.decompress(packed) == data
    assert len(packed) <= len(gzip.compress(data, 9, mtime=0))
    assert smallest_gzip(bytes(bytearray(data))) == packed


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100_000, few_levels(7), bytes(range(256)) * 50], ids=["none", "zeros", "weights", "runs"]
)
def test_the_gzip_command_reads_it(data, tmp_path):
    path = tmp_path / "model.tflite.gz"
    path.write_bytes(smallest_gzip(data))
    subprocess.run(["gzip", "--test", str(path)], check=True)
    subprocess.run(["gzip", "--decompress", str(path)], check=True)
    assert (tmp_path / "model.tflite").read_bytes() == data


@pytest.mark.parametrize("levels", [3, 7, 15])
def test_weights_on_few_levels_take_a_twentieth_less_or_better(levels):
    data = few_levels(levels)
    assert len(smallest_gzip(data)) < 0.95 * len(gzip.compress(data, 9))
