"""Coral's Edge TPU: its compiler's reports, as versions 2.1 to 16.0 write them, replayed by a stand-in on the PATH."""

import os
import stat
import sys
from pathlib import Path

import pytest
import tiny
import tinybundle

import autoopt
from autoopt import targets
from autoopt.api import measure_file
from autoopt.core.schemes import SCHEMES
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.targets import edgetpu

BANNER = "Edge TPU Compiler version 16.0.384591198\n"
STARTED = BANNER + "Started a compilation timeout timer of 180 seconds.\n\n"
ENDED = "\nCompilation child process completed within timeout period.\nCompilation succeeded! \n"
PARTLY = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead "
    "run on the CPU, which is slower. If possible, consider updating your model to use only operations supported by the Edge "
    "TPU. For details, visit g.co/coral/model-reqs.\n"
)


def figures(on: str, remaining: str, off: str, subgraphs: int, total: int) -> str:
    return (
        "Model compiled successfully in 61 ms.\n\nInput model: /tmp/model.tflite\nInput size: 8.41KiB\n"
        "Output model: /tmp/model_edgetpu.tflite\nOutput size: 52.52KiB\n"
        f"On-chip memory used for caching model parameters: {on}\n"
        f"On-chip memory remaining for caching model parameters: {remaining}\n"
        f"Off-chip memory used for streaming uncached model parameters: {off}\n"
        f"Number of Edge TPU subgraphs: {subgraphs}\nTotal number of operations: {total}\n"
        "Operation log: /tmp/model_edgetpu.log\n\n"
    )


def split(on_tpu: int, on_cpu: int) -> str:
    told = f"Number of operations that will run on Edge TPU: {on_tpu}\nNumber of operations that will run on CPU: {on_cpu}\n\n"
    return PARTLY + told


def table(*rows: tuple[str, int, str]) -> str:
    head = "Operator                       Count      Status\n\n"
    return head + "".join(f"{name:<31}{count:<11}{status}\n" for name, count, status in rows)


WHOLE = (
    STARTED + figures("6.25KiB", "7.91MiB", "0.00B", 1, 9)
    + table(("CONV_2D", 2, "Mapped to Edge TPU"), ("QUANTIZE", 2, "Mapped to Edge TPU"), ("FULLY_CONNECTED", 2, "Mapped to Edge TPU"),
            ("DEPTHWISE_CONV_2D", 1, "Mapped to Edge TPU"), ("RESHAPE", 1, "Mapped to Edge TPU"), ("SOFTMAX", 1, "Mapped to Edge TPU"))
    + ENDED
)  # fmt: skip
PART = (
    STARTED + figures("6.86MiB", "7.75KiB", "1.22MiB", 1, 93) + split(90, 3)
    + table(("LOGISTIC", 1, "More than one subgraph is not supported"), ("ADD", 10, "Mapped to Edge TPU"),
            ("CUSTOM", 1, "Operation is working on an unsupported data type"),
            ("SOFTMAX", 1, "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"))
    + ENDED
)  # fmt: skip
UNLISTED = (
    BANNER + "\n" + figures("604.50KiB", "511.50KiB", "3.45MiB", 1, 50) + split(48, 2) + "See the operation log file.\n"
)
NOTHING = (
    STARTED + figures("0.00B", "0.00B", "0.00B", 0, 12) + split(0, 12)
    + table(("RESHAPE", 12, "Operation is working on an unsupported data type")) + ENDED
)  # fmt: skip
INTERNAL = "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n"
LARGE = (
    STARTED + "ERROR: Restored original execution plan after delegate application failure.\n"
    "Compilation failed: Compilation failed due to large activation tensors in model.\n"
    "Compilation child process completed within timeout period.\nCompilation failed! \n"
)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in that says what it is told to, and makes a copy of the file where the real one would make something of it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / edgetpu.PROGRAM
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def says(report: str, *, code: int = 0, makes: bool = True):
        (folder / "report").write_text(report)
        program.write_text(
            f"#!{sys.executable} -I\n"
            "import pathlib, shutil, sys\n"
            f"here, code, makes = pathlib.Path({str(folder)!r}), {code}, {makes}\n"
            "with open(here / 'calls', 'a') as calls:\n    print(*sys.argv[1:], file=calls)\n"
            f"if sys.argv[1:] == ['--version']:\n    print({BANNER.strip()!r})\n    sys.exit(0)\n"
            "show, option, out, model = sys.argv[1:]\n"
            "assert (show, option) == ('-s', '-o')\n"
            "if makes:\n"
            "    shutil.copy(model, pathlib.Path(out, pathlib.Path(model).stem + '_edgetpu.tflite'))\n"
            "print((here / 'report').read_text(), end='')\n"
            "sys.exit(code)\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return targets.find("edgetpu")

    says.calls = lambda: (folder / "calls").read_text().splitlines()  # type: ignore[attr-defined]
    return says


@pytest.fixture(scope="module")
def file() -> bytes:
    return tiny.file(tiny.recipe("uint8_io"))


def test_what_it_says_of_a_model_that_it_takes_whole(compiler, file) -> None:
    target = compiler(WHOLE)
    assert target.memory(file) == {"memory_bytes": 6400, "flash_bytes": 0}
    assert target.fallbacks(file) == ()
    assert len(compiler.calls()) == 1  # asked for two things, compiled once
    told = target.describe()
    assert (told["processor"], told["runtime"]) == ("Edge TPU", "edgetpu_compiler 16.0.384591198")


def test_what_stays_with_the_cpu_is_told_with_the_reason(compiler, file) -> None:
    target = compiler(PART)
    assert target.memory(file) == {"memory_bytes": round(6.86 * 2**20), "flash_bytes": round(1.22 * 2**20)}
    [told] = target.fallbacks(file)
    assert told.startswith(
        "3 of 93 operators on the CPU: 1 LOGISTIC (More than one subgraph is not supported), 1 CUSTOM ("
    )
    assert "1 SOFTMAX (Tensor has unsupported rank (up to 3 innermost dimensions mapped))" in told
    assert "ADD" not in told


def test_a_report_without_a_table_tells_how_many(compiler, file) -> None:
    assert compiler(UNLISTED).fallbacks(file) == ("2 of 50 operators on the CPU",)


@pytest.mark.parametrize(
    ("report", "code", "makes", "words"),
    [
        (NOTHING, 0, True, "none of the 12 operators runs on the Edge TPU: 12 RESHAPE (Operation is working on an unsupported"),
        (INTERNAL, 1, False, "can't compile the file: Internal compiler error. Aborting!"),
        (INTERNAL, 0, False, "can't compile the file: Internal compiler error. Aborting!"),
        (LARGE, 1, False, "Compilation failed: Compilation failed due to large activation tensors in model."),
        ("", 0, True, "no message"),
        (WHOLE, 0, False, "can't compile the file"),
    ],
    ids=["nothing of it", "internal error", "internal error, code 0", "large tensors", "silence", "no file"],
)  # fmt: skip
def test_what_it_cannot_compile_fails_with_its_reason(report, code, makes, words, compiler, file) -> None:
    with pytest.raises(CandidateFailed) as caught:
        compiler(report, code=code, makes=makes).memory(file)
    assert caught.value.stage == "edgetpu"
    assert words in caught.value.reason
    assert "\n" not in caught.value.reason


def test_it_has_to_be_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (targets.find("edgetpu").describe, lambda: targets.find("edgetpu").memory(file)):
        with pytest.raises(ConfigError, match="edgetpu_compiler is not on the PATH"):
            ask()


def test_it_is_one_kind_alone() -> None:
    for text in ("edgetpu:usb", "edgetpu?speed=max"):
        with pytest.raises(ConfigError, match="target edgetpu"):
            targets.find(text)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_takes_integers_of_8_bits(scheme) -> None:
    integers = ("int8", "int8_io", "uint8_io")
    assert bool(targets.find("edgetpu").refuses(scheme)) == (scheme.removeprefix("qat_") not in integers)


@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_it_takes_no_layers_in_float_and_none_in_4_bits(how) -> None:
    assert bool(targets.find("edgetpu").refuses("uint8_io", how)) == bool(how.keep or how.keep_ends or how.int4)


def test_a_measured_file_says_what_stays_with_the_cpu(compiler, file, tmp_path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(file)
    found = measure_file.measure_file(path, compiler(PART)).measurements
    assert found["flash_bytes"].value == round(1.22 * 2**20)
    assert [flag.startswith("3 of 93 operators on the CPU") for flag in found["memory_bytes"].flags] == [True]
    assert "latency_ms" not in found


def test_a_bundle_has_what_was_compiled(compiler, file, tmp_path) -> None:
    compiler(PART)
    bundle = tinybundle.bundle(tmp_path / "study", file, tiny.split(64, 2), scheme="uint8_io", target="edgetpu")
    assert (bundle / edgetpu.COMPILED).read_bytes() == file
    header = (bundle / "model_data.h").read_text()
    assert "model_edgetpu.tflite, compiled by edgetpu_compiler 16.0.384591198" in header
    assert "3 of 93 operators on the CPU" in header
    assert autoopt.verify(bundle).holds
