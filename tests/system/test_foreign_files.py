"""What is refused of a file before it is read: other things than files, and what memory can't hold."""

import io
import os
import socket
import stat
import zipfile

import numpy as np
import psutil
import pytest

from autoopt.errors import ConfigError
from autoopt.system import foreign_files


def refusal(function, *given):
    with pytest.raises(ConfigError) as caught:
        function(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("/dev/zero")
    found = {"pipe": "a pipe", "socket": "a socket", "link": "a device", ".": "a folder"}
    for name, words in found.items():
        for function in (foreign_files.read, foreign_files.names, lambda path: foreign_files.arrays(path, str(path))):
            assert (
                refusal(function, tmp_path / name) == f"{tmp_path / name}: can't read it (expected a file, got {words})"
            )


def test_an_empty_or_giant_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    assert refusal(foreign_files.read, tmp_path / "empty") == f"{tmp_path / 'empty'}: is empty; copy it anew"
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(psutil.virtual_memory().total + 1)  # holes, which take no room
    assert "is too large: it takes" in refusal(foreign_files.read, tmp_path / "giant")


def header(shape, dtype="<f4"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
    return out.getvalue()


def packed(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header((1 << 60,)), "its header says (1152921504606846976,) of float32, which is more than it holds"),
        (header((4,)) + bytes(8), "more than it holds"),
        (header((-4,)) + bytes(16), "more than it holds"),
        (header((1,), "|O") + b"cos\nsystem\n", "got Python objects"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "not an .npz of plain arrays"),
    ],
)
def test_a_header_that_lies_is_refused_before_its_array_is_made(data, words, tmp_path):
    path = packed(tmp_path / "data.npz", x=data)
    assert words in refusal(foreign_files.arrays, path, str(path))


def test_a_small_file_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    path = packed(tmp_path / "data.npz", x=header((1 << 20,)) + bytes(4 << 20))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(foreign_files, "room", lambda: 1 << 20)
    assert "is too large unpacked" in refusal(foreign_files.arrays, path, str(path))


def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path):
    link = zipfile.ZipInfo("link.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member in ("../x.npy", "/x.npy", "a/../../x.npy", "..\\x.npy", "C:\\x.npy", link):
        with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
            archive.writestr(member, "/etc/passwd")
        said = refusal(foreign_files.arrays, tmp_path / "data.npz", "data.npz")
        assert "leads out of it" in said or "is a link" in said


def test_arrays_come_back_as_they_were_written(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"]), "none": np.zeros((0, 3), "i2")}
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    assert sorted(foreign_files.names(tmp_path / "data.npz")) == sorted(arrays)
    found = foreign_files.arrays(tmp_path / "data.npz", "data.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert list(foreign_files.arrays(tmp_path / "data.npz", "data.npz", ["x"])) == ["x"]
