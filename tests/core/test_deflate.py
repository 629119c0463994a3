"""The smallest gzip is a gzip like any other, and never larger than `gzip -9`."""

import gzip
import subprocess
import zlib

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


def mixture(seed=0, n=300_000):
    """Parts that different strategies suit, longer than what a gzip can look back."""
    rng = np.random.default_rng(seed)
    return b"".join(
        (few_levels(7, n), bytes(range(200)) * (n // 400), rng.bytes(n // 10), b"\0" * n, few_levels(31, n))
    )


pieces = st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 300))


@given(data=st.binary(max_size=4000) | st.lists(pieces, max_size=8).map(b"".join))
def test_all_bytes_come_back(data):
    packed = smallest_gzip(data)
    assert gzip.decompress(packed) == data
    assert len(packed) <= len(gzip.compress(data, 9, mtime=0))
    assert smallest_gzip(bytes(bytearray(data))) == packed


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100_000, few_levels(7), bytes(range(256)) * 50, mixture()],
    ids=["none", "zeros", "weights", "runs", "mixture"],
)
def test_the_gzip_command_reads_it(data, tmp_path):
    path = tmp_path / "model.tflite.gz"
    path.write_bytes(smallest_gzip(data))
    subprocess.run(["gzip", "--test", str(path)], check=True)
    subprocess.run(["gzip", "--decompress", str(path)], check=True)
    assert (tmp_path / "model.tflite").read_bytes() == data


def test_parts_that_differ_are_packed_differently():
    data = mixture()
    alike = min(len(zlib.compress(data, 9)), *(len(_whole(data, s)) for s in (zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY)))
    assert len(smallest_gzip(data)) < 0.97 * alike


def _whole(data, strategy):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("levels", [3, 7, 15])
def test_weights_on_few_levels_take_a_twentieth_less_or_better(levels):
    data = few_levels(levels)
    assert len(smallest_gzip(data)) < 0.95 * len(gzip.compress(data, 9))
