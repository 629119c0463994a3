"""Array files that grow, read by numpy itself."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.errors import TargetUnavailable
from autoopt.models.columns import CHUNK_BYTES, Columns, chunks, mapped, same, where_it_lies
from autoopt.system.files import writing

DTYPES = ["uint8", "int8", "int64", "float16", "float32", "float64", "bool", ">f4"]


@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    ),
    cuts=st.lists(st.integers(0, 5), max_size=3),
)
def test_what_is_appended_in_parts_is_read_by_numpy_as_a_whole(array, cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    with Columns(folder) as columns:
        for part in np.split(array, sorted(min(cut, len(array)) for cut in cuts)):
            columns.append({"x": part})
    back = np.load(folder / "x.npy", allow_pickle=False)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert same(back, array)
    assert same(columns.arrays({})["x"], array)


def test_a_header_has_room_for_any_number_of_items(tmp_path):
    with Columns(tmp_path) as columns:
        for first in range(0, 12345, 1000):
            columns.append({"x": np.arange(first, min(first + 1000, 12345), dtype=np.int32)})
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.arange(12345))


def test_what_was_written_is_known_by_any_view_of_all_of_it(tmp_path):
    with Columns(tmp_path) as columns:
        columns.append({"x": np.ones((4, 3))})
    files = {}
    found = columns.arrays(files)["x"]
    assert files[where_it_lies(np.asarray(found))][0] == tmp_path / "x.npy"
    assert where_it_lies(found[1:]) not in files
    assert where_it_lies(found.reshape(3, 4)) not in files


def test_a_mapped_array_is_not_read_until_it_is_used(tmp_path):
    """A sparse file that is larger than any memory."""
    with (tmp_path / "x.npy").open("wb") as file:
        head = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)}
        np.lib.format.write_array_header_1_0(file, head)
        start = file.tell()
        try:
            os.truncate(file.fileno(), start + (1 << 40))
        except OSError:
            pytest.skip("the file system has no sparse files of that size")
    array = mapped(tmp_path / "x.npy")
    assert array.shape == (1 << 40,)
    assert array[1 << 39] == 0


@pytest.mark.parametrize("shape", [(10,), (3, 1 << 20, 100), (1, 1 << 28), (0, 4)])
def test_chunks_are_all_items_in_order(shape):
    array = np.broadcast_to(np.uint8(0), shape)
    parts = list(chunks(array))
    assert sum(len(part) for part in parts) == len(array)
    assert all(part.nbytes <= max(CHUNK_BYTES, array[:1].nbytes) for part in parts)


def test_nan_is_the_same_as_nan_but_zero_is_not_minus_zero():
    assert same(np.array([np.nan]), np.array([np.nan]))
    assert not same(np.array([0.0]), np.array([-0.0]))
    assert not same(np.zeros(3), np.zeros(3, np.float32))
    assert not same(np.zeros(3), np.zeros((3, 1)))


def test_a_folder_that_can_not_be_written_is_told_in_one_line(tmp_path):
    with (
        pytest.raises(TargetUnavailable, match=r"can't write \(No such file or directory\); free space"),
        writing(tmp_path),
    ):
        (tmp_path / "no" / "folder").write_bytes(b"")
