"""What this machine has and lacks, for people who ask why it does not work, or why int8 is slow."""

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from autoopt.errors import AutooptError
from autoopt.system import gpus
from autoopt.system.locks import private_folder
from autoopt.system.scratch import PRIVATE
from autoopt.targets import edgetpu

NEEDED = (
    "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "litert-quantizer", "numpy", "optuna",
    "pandas", "plotly", "dash", "distributed",
)  # fmt: skip
FEATURES = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "amx_int8": "AMX",
    "asimd": "NEON", "asimddp": "NEON dot product", "i8mm": "NEON int8 matrices",
}  # fmt: skip
"""Of processors, as Linux calls them."""
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Those with which int8 pays."""
LEAST_BYTES = 4 << 30
"""Memory under which a night of training may not go well."""
LEAST_TEMPORARY_BYTES = 1 << 30
"""Room for what jobs of large models put down for a moment."""
ASK_S = 10
CUDA = "nvidia-cudnn-cu12"
"""The package without which TensorFlow uses no GPU."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: a word or two.
        found: what there is.
        state: `good`, `poor` (works, but know this) or `bad` (does not work).
        advice: what to do; empty where all is good.
    """

    topic: str
    found: str
    state: str = "good"
    advice: str = ""


def examine(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[Finding]:
    """Look at libraries, processor, memory, disk and targets; nothing is started but `adb devices`.

    Args:
        cpuinfo: where Linux describes the processor.
    """
    return [
        _python(),
        *_libraries(),
        _keras(),
        _processor(cpuinfo),
        _cores(),
        *_gpus(),
        _memory(),
        _disk(),
        _temporary(),
        *_targets(),
    ]


def _python() -> Finding:
    good = platform.system() == "Linux"
    advice = "" if good else "jobs start slowly and nothing is frozen while latency is measured: use slots: 1"
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(topic="python", found=found, state="good" if good else "poor", advice=advice)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _libraries() -> Iterator[Finding]:
    have = {name: _version(name) for name in NEEDED}
    missing = [name for name, number in have.items() if not number]
    told = ", ".join(f"{name} {number}" for name, number in have.items() if number)
    advice = f"missing: {', '.join(missing)}; install autoopt again" if missing else ""
    yield Finding(topic="libraries", found=told, state="bad" if missing else "good", advice=advice)
    if _version("tensorflow") and _version("tensorflow-cpu"):
        yield Finding(
            topic="libraries",
            found="tensorflow and tensorflow-cpu are both installed",
            state="poor",
            advice="they overwrite each other's files; `pip uninstall tensorflow-cpu`, then install tensorflow again",
        )


def _keras() -> Finding:
    """tensorflow-model-optimization knows Keras 2 alone."""
    chosen = os.environ.get("TF_USE_LEGACY_KERAS", "1")
    if chosen in ("1", "true", "True"):
        return Finding(
            topic="keras", found=f"Keras 2 (tf_keras {_version('tf-keras')}) is what TensorFlow is told to use"
        )
    return Finding(
        topic="keras",
        found=f"TF_USE_LEGACY_KERAS is {chosen!r}",
        state="poor",
        advice="autoopt's own jobs set it to 1; in a notebook of yours, set it before tensorflow is imported",
    )


def _processor(cpuinfo: Path) -> Finding:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return Finding(topic="processor", found=f"{platform.processor() or 'unknown'}; its features are not known")
    lines = (line.partition(":") for line in text.splitlines())
    flags = {flag for name, _, value in lines if name.strip() in ("flags", "features") for flag in value.split()}
    told = ", ".join(words for flag, words in FEATURES.items() if flag in flags) or "none that matter"
    if flags & set(DOT_PRODUCTS):
        return Finding(topic="processor", found=told)
    advice = "no integer dot product: int8 may be slower than float32 here; measure on the device that you ship to"
    return Finding(topic="processor", found=told, state="poor", advice=advice)


def _cores() -> Finding:
    return Finding(topic="cores", found=f"{os.cpu_count()}")


def _gpus() -> Iterator[Finding]:
    """GPUs, and whether TensorFlow has what it takes to use them."""
    there = gpus.found()
    if not there:
        yield Finding(topic="gpu", found="none is known; trainings use the processor")
    for gpu in there:
        told = f"{gpu.name}, {gpu.total_bytes / 1e9:.0f} GB, {gpu.free_bytes / 1e9:.0f} GB free"
        if _version(CUDA):
            jobs = f"up to {gpu.jobs} trainings at a time" if gpu.jobs > 1 else "one training at a time"
            yield Finding(topic="gpu", found=f"{told}; {jobs} use it, all else uses the processor")
        else:
            advice = "TensorFlow lacks the libraries to use it: pip install 'autoopt[gpu]'"
            yield Finding(topic="gpu", found=told, state="poor", advice=advice)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"
    if memory.available >= LEAST_BYTES:
        return Finding(topic="memory", found=found)
    return Finding(topic="memory", found=found, state="poor", advice="close other programs, or use slots: 1")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 1e9:.1f} GB free here"
    if free >= 2e9:
        return Finding(topic="disk", found=found)
    return Finding(
        topic="disk", found=found, state="poor", advice="a study keeps every model that it makes; free some space"
    )


def _temporary() -> Finding:
    """Jobs work in a folder below the temporary one, which nobody else may enter."""
    try:
        place = private_folder(PRIVATE)
        free = shutil.disk_usage(place).free
    except AutooptError as error:
        return Finding(topic="temporary", found="no folder of your own", state="bad", advice=str(error))
    except OSError as error:
        advice = f"{error.strerror or error}; make room there, or set TMPDIR to another folder"
        return Finding(topic="temporary", found="nothing can be written", state="bad", advice=advice)
    found = f"{free / 1e9:.1f} GB free in {place.parent}"
    if free >= LEAST_TEMPORARY_BYTES:
        return Finding(topic="temporary", found=found)
    advice = "jobs wait when it is full; free some space, or set TMPDIR to another folder"
    return Finding(topic="temporary", found=found, state="poor", advice=advice)


def _targets() -> Iterator[Finding]:
    yield Finding(topic="target host", found="this machine")
    yield _program("ssh", "ssh", "boards over ssh", "install an ssh client")
    devices = _devices()
    if devices is None:
        yield Finding(
            topic="target adb", found="no adb", state="poor", advice="for phones, install Android's platform-tools"
        )
    elif devices:
        yield Finding(topic="target adb", found=", ".join(devices))
    else:
        yield Finding(
            topic="target adb", found="no device", state="poor", advice="plug one in and allow debugging on it"
        )
    for target, module, extra in (("vela", "ethosu", "npu"), ("micro", "tflite_micro", "micro")):
        have = importlib.util.find_spec(module) is not None
        yield Finding(
            topic=f"target {target}",
            found="installed" if have else "not installed",
            state="good" if have else "poor",
            advice="" if have else f"if you need it: pip install 'autoopt[{extra}]'",
        )
    advice = "if you need it: https://coral.ai/docs/edgetpu/compiler"
    yield _program("edgetpu", edgetpu.PROGRAM, "installed", advice)


def _program(target: str, name: str, what: str, advice: str) -> Finding:
    if shutil.which(name):
        return Finding(topic=f"target {target}", found=what)
    return Finding(topic=f"target {target}", found=f"no {name}", state="poor", advice=advice)


def _devices() -> list[str] | None:
    """Serials of the phones that adb sees; None without adb."""
    adb = shutil.which("adb")
    if adb is None:
        return None
    try:
        done = subprocess.run([adb, "devices"], capture_output=True, text=True, check=False, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = (line.split() for line in done.stdout.splitlines()[1:])
    return [row[0] for row in rows if len(row) > 1 and row[1] == "device"]
