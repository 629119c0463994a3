"""A function in a process of its own: what it gives, says and raises comes back, and its crash is an error here."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import builders
import psutil
import pytest
import waiting

from autoopt.errors import CandidateFailed, ConfigError
from autoopt.system import isolation


def answer(value, say=None):
    print("a library's greeting")
    os.write(2, b"another one\n")
    if say is not None:
        say(f"got {value}\nand a line")
    return value


def fail(kind):
    raise {"config": ConfigError("wrong", call="()", command=" --x"), "candidate": CandidateFailed("a", "b")}[kind]


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def odd():
    raise Odd(1, 2)


def end(number):
    os.kill(os.getpid(), number)


def leave(code):
    os.write(2, b"first\nlast words\n")
    os._exit(code)


def test_what_it_returns_and_says_comes_back_and_what_libraries_print_does_not(capfd):
    said = []
    assert isolation.call(answer, {"a": [1, 2]}, say=said.append) == {"a": [1, 2]}
    assert said == ["got {'a': [1, 2]}\nand a line"]
    assert isolation.call(answer, 3) == 3
    assert capfd.readouterr() == ("", "")


def test_what_it_raises_is_raised():
    with pytest.raises(ConfigError, match=r"wrong\(\)") as caught:
        isolation.call(fail, "config")
    assert caught.value.command_line == "wrong --x"
    with pytest.raises(CandidateFailed) as failed:
        isolation.call(fail, "candidate")
    assert (failed.value.stage, failed.value.reason) == ("a", "b")
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        isolation.call(odd)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_names_its_signal(number):
    with pytest.raises(isolation.Crashed, match=number.name):
        isolation.call(end, number)


def test_an_end_without_an_answer_gives_its_last_line():
    with pytest.raises(isolation.Crashed, match="exit code 3: last words"):
        isolation.call(leave, 3)
    with pytest.raises(isolation.Crashed, match="exit code 0"):
        isolation.call(leave, 0)


def test_a_process_that_never_answers_is_ended():
    with pytest.raises(isolation.Crashed, match="no answer after 1 s"):
        isolation.call(time.sleep, 600, longest_s=1)


def fill():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20) * 16))
        time.sleep(0.01)


def test_a_process_that_takes_all_memory_is_ended(monkeypatch):
    free = types.SimpleNamespace(available=isolation.LEFT_BYTES + 300_000_000)
    monkeypatch.setattr(isolation.psutil, "virtual_memory", lambda: free)
    with pytest.raises(isolation.Crashed, match="more than 300 MB of memory"):
        isolation.call(fill)


def temporary():
    import tempfile

    return tempfile.mkdtemp()


def test_what_it_leaves_in_its_temporary_folder_goes_with_it():
    assert not Path(isolation.call(temporary)).exists()


def test_a_script_without_a_main_guard_can_call_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from autoopt.system import isolation; from autoopt.system import foreign_files as foreign\nprint(isolation.call(foreign.room) > 0)\n"
    )
    root = builders.ROOT
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_it_ends_with_who_asked(tmp_path):
    script, work, begun = tmp_path / "script.py", tmp_path / "work.py", tmp_path / "begun"
    work.write_text(f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n")
    script.write_text(
        f"import runpy\nfrom autoopt.system import isolation\nisolation.call(runpy.run_path, {str(work)!r})\n"
    )
    root = builders.ROOT
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(root)})
    try:
        waiting.until(begun.exists, of=parent)  # by then it has asked the kernel
        children = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=waiting.LONGEST_S)
    assert gone
    assert not alive
