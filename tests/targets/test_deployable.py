"""What goes into the firmware of targets that run no files."""

import pytest

from autoopt import targets


@pytest.mark.parametrize("name", ["host", "ssh://pi@board", "adb:PHONE?benchmark_model=/a/binary"])
def test_targets_that_run_files_have_no_firmware(name: str) -> None:
    assert targets.find(name).deployable(b"a model") is None


def test_a_microcontroller_takes_the_file_as_it_is() -> None:
    given = targets.find("micro:64KB").deployable(b"a model")
    assert given == targets.Deployable(file=b"a model")


def test_what_vela_can_not_compile_is_the_file_as_it_is_and_says_so() -> None:
    given = targets.find("vela:ethos-u55-128").deployable(b"no model at all")
    assert given is not None
    assert (given.file, given.name) == (b"no model at all", "")
    assert given.notes[0].startswith("Not compiled for vela:ethos-u55-128: ")
