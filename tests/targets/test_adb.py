"""A phone over adb: a scripted adb and a scripted `benchmark_model` that prints what the real one does.

Everything but the cable is real: what is pushed is copied, and what is run there, `sh` runs.
"""

import shutil

import pytest
import tenacity

from autoopt import targets
from autoopt.errors import CandidateFailed, ConfigError, TargetLost, TargetUnavailable
from autoopt.targets.adb import Adb

ADB = r"""#!/bin/sh
phone='{phone}'
echo "$*" >> "$phone/calls"
if [ -s "$phone/troubles" ]; then  # one line a call: what adb says, or nothing for a call that goes well
    trouble=$(head -n 1 "$phone/troubles")
    sed -i 1d "$phone/troubles"
    case "$trouble" in
    well) ;;
    cut*) echo "INFO: STARTING!"; exit "${{trouble#cut}}" ;;
    *) printf '%b\n' "$trouble" >&2; exit 1 ;;
    esac
fi
case "$1 $2 $3" in
"-s PIXEL shell") sh -c "$(printf %s "$4" | sed "s#/data/local/tmp#$phone/data#g")" ;;
"-s PIXEL push") cp "$4" "$phone/data/${{5#/data/local/tmp/}}" && echo "$4: 1 file pushed." ;;
*) echo "adb: device '$2' not found" >&2; exit 1 ;;
esac
"""
GETPROP = """#!/bin/sh
case "$1" in
ro.product.model) echo "Pixel 8" ;;
ro.build.version.release) echo 15 ;;
*) echo ;;
esac
"""
BENCHMARK = """#!/bin/sh
phone='{phone}'
echo "$*" >> "$phone/runs"
case "$(cat "${{1#--graph=}}")" in
reference) cat "$phone/reference" ;;
*) cat "$phone/says"; exit "$(cat "$phone/code")" ;;
esac
"""
HEAD = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [1]
INFO: #threads used for CPU inference: [1]
INFO: Loaded model /data/local/tmp/autoopt/model.tflite
INFO: Initialized TensorFlow Lite runtime.
"""
TIMES = """INFO: The input model file size (MB): 4.2761
INFO: Initialized session in 87.639ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=106436 curr=105929 min=105929 max=106436 avg=106065 std=193 p5=105929 median=105948 p95=106436

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
"""
TAIL = """
INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=14.4414 overall=14.8164
"""
XNNPACK = """INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 49 out of 49 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for subgraph 0.
"""
COUNTED = "INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260 p5=105485 median=105718 p95=106281"
CPU = HEAD + XNNPACK + TIMES + COUNTED + TAIL
GPU = f"""{HEAD}INFO: Created TensorFlow Lite delegate for GPU.
INFO: GPU delegate created.
INFO: Loaded OpenCL library with dlopen.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
{TIMES}INFO: count=50 first=119614 curr=115889 min=111842 max=119614 avg=115246 std=1329 p5=112107 median=115350 p95=116620
{TAIL.replace("init=14.4414 overall=14.8164", "init=132.816 overall=132.816")}"""
PARTLY = GPU.replace("completely executed by the delegate", "partially executed by the delegate w/ 2 delegate kernels")
DECLINED = (
    HEAD
    + "INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
    + TIMES + COUNTED + TAIL
)  # fmt: skip
OLD = """STARTING!
Loaded model /data/local/tmp/autoopt/model.tflite
count=2 first=250889 curr=249042 min=249042 max=250889 avg=249966 std=923

count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442

Inference timings in us: Init: 5685, First inference: 250889, Warmup (avg): 249966, Inference (avg): 249684
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
ONCE = HEAD + "INFO: count=1 curr=670083 p5=670083 median=670083 p95=670083\n\n" + (
    "INFO: count=17 first=2950340 curr=2950340 min=2950111 max=2960000 avg=2.95034e+06 std=1442 p5=2950222 "
    "median=2950340 p95=2959999\n"
)  # fmt: skip
BROKEN = """INFO: STARTING!
ERROR: Model provided has model identifier 'oken', should be 'TFL3'
ERROR: Failed to load model /data/local/tmp/autoopt/model.tflite
ERROR: Benchmarking failed.
"""
REFUSED = HEAD + """INFO: Created TensorFlow Lite delegate for GPU.
ERROR: TfLiteGpuDelegate Init: No selector for transpose
ERROR: Failed to apply GPU delegate.
ERROR: Benchmarking failed.
"""  # fmt: skip
UNAUTHORIZED = "error: device unauthorized.\\nThis adb server's $ADB_VENDOR_KEYS is not set"
GONE = "adb: device 'PIXEL' not found"


class Phone:
    """Says what it is told to; `runs` and `calls` tell what it was asked."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "data").mkdir()
        (folder / "bin").mkdir()
        for name, text in {"bin/adb": ADB, "bin/getprop": GETPROP, "benchmark_model": BENCHMARK}.items():
            (folder / name).write_text(text.format(phone=folder) if "{phone}" in text else text)
            (folder / name).chmod(0o755)
        (folder / "reference").write_text(CPU)
        self.says(CPU)

    def says(self, text, code=0):
        (self.folder / "says").write_text(text)
        (self.folder / "code").write_text(str(code))

    def troubles(self, *lines):
        (self.folder / "troubles").write_text("".join(f"{line}\n" for line in lines))

    def lines(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def target(self, options="", threads=1):
        return targets.find(f"adb:PIXEL?benchmark_model={self.folder}/benchmark_model{options}", threads)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(Adb._adb.retry, "wait", tenacity.wait_none())
    return Phone(tmp_path)


def latency(target):
    return target.latency(b"candidate", b"reference")


def test_a_phone_describes_itself(phone):
    told = phone.target("&delegate=gpu").describe()
    told.pop("temperature_c", None)
    assert told.pop("runtime").endswith(", delegate gpu")
    assert told.pop("target").startswith("adb:PIXEL?benchmark_model=")
    assert told == {"phone": "Pixel 8", "processor": "unknown", "board": "", "system": "Android 15"}


def test_both_files_are_run_in_turn_and_the_fifth_percentile_is_taken(phone):
    phone.says(GPU)
    timing = latency(phone.target())
    assert timing.rounds == [[(112107_000, 105485_000)]] * 3
    assert timing.flags == ()
    graphs = [line.split()[0] for line in phone.lines("runs")]
    assert [graphs[0], graphs[1]] * 3 == [graphs[0], graphs[1], graphs[3], graphs[2], graphs[4], graphs[5]]
    assert graphs[1] == graphs[2]


@pytest.mark.parametrize(
    ("says", "microseconds"),
    [
        (OLD, 247067),
        (ONCE, 2950222),
        (HEAD + "INFO: count=1 curr=670083 p5=670083 median=670083 p95=670083\n", 670083),
        (HEAD + "count=5 first=9 curr=9 min=8 max=9 avg=9 std=1\n\ncount=1 curr=7000\n", 7000),
    ],
    ids=["older release", "seconds a run", "single run", "single run of an older release"],
)
def test_times_are_those_of_the_measured_runs(says, microseconds, phone):
    phone.says(says)
    assert {mine for ((mine, _),) in latency(phone.target()).rounds} == {microseconds * 1000}


@pytest.mark.parametrize(
    ("says", "megabytes"), [(CPU, 14.8164), (GPU, 132.816), (OLD, 138.809)], ids=["cpu", "gpu", "older release"]
)
def test_memory_is_what_the_binary_says(says, megabytes, phone):
    phone.says(says)
    assert phone.target().memory(b"candidate") == {"memory_bytes": round(megabytes * 1024 * 1024)}


def test_memory_that_shrank_is_none(phone):
    phone.says(CPU.replace("overall=14.8164", "overall=-0.25"))
    assert phone.target().memory(b"candidate") == {"memory_bytes": 0}


def test_a_binary_that_says_nothing_of_memory_fails_the_candidate(phone):
    phone.says("".join(line for line in CPU.splitlines(keepends=True) if "Memory footprint" not in line))
    with pytest.raises(CandidateFailed, match="memory: benchmark_model said nothing of memory"):
        phone.target().memory(b"candidate")


def test_a_binary_that_says_nothing_of_time_fails_the_candidate(phone):
    phone.says(HEAD)
    with pytest.raises(CandidateFailed, match=r"printed no times: INFO: Initialized TensorFlow Lite runtime."):
        latency(phone.target())


@pytest.mark.parametrize(
    ("delegate", "flag"),
    [
        ("", "--use_xnnpack=true"),
        ("&delegate=cpu", "--use_xnnpack=true"),
        ("&delegate=gpu", "--use_gpu=true"),
        ("&delegate=nnapi", "--use_nnapi=true"),
        ("&delegate=none", "--use_xnnpack=false"),
    ],
)
def test_delegate_and_threads_are_passed_on(delegate, flag, phone):
    phone.target(delegate, threads=3).memory(b"candidate")
    (run,) = phone.lines("runs")
    assert run.endswith(f" {flag}")
    assert "--num_threads=3 " in run


def test_a_delegate_that_takes_nothing_fails_the_candidate(phone):
    phone.says(DECLINED)
    with pytest.raises(CandidateFailed, match="the nnapi delegate takes nothing of the graph"):
        latency(phone.target("&delegate=nnapi"))


def test_a_delegate_that_takes_a_part_is_told(phone):
    phone.says(PARTLY)
    assert latency(phone.target("&delegate=gpu")).flags == (
        "the gpu delegate runs a part of the graph only (2 kernels)",
    )


@pytest.mark.parametrize("says", [PARTLY, DECLINED], ids=["partly", "declined"])
def test_on_the_cpu_other_kernels_run_what_xnnpack_leaves(says, phone):
    phone.says(says.replace("GPU", "XNNPACK").replace("NNAPI", "XNNPACK"))
    assert latency(phone.target()).flags == ()


@pytest.mark.parametrize(
    ("says", "code", "reason"),
    [
        (BROKEN, 1, "ERROR: Model provided has model identifier 'oken', should be 'TFL3'"),
        (REFUSED, 1, "ERROR: TfLiteGpuDelegate Init: No selector for transpose"),
        (HEAD, 139, "killed by signal 11"),
    ],
    ids=["broken", "refused", "crashed"],
)
def test_a_file_that_does_not_run_fails_its_candidate_with_the_first_error(says, code, reason, phone):
    phone.says(says, code)
    with pytest.raises(CandidateFailed) as caught:
        latency(phone.target())
    assert caught.value.reason == f"benchmark_model can't run the file: {reason}"
    assert len(phone.lines("runs")) == 1


@pytest.mark.parametrize(
    "trouble", [GONE, "error: device offline", "adb: error: failed to get feature set: no devices/emulators found"]
)
def test_a_phone_that_is_gone_is_lost_after_some_tries(trouble, phone):
    phone.troubles(*[trouble] * 3, *["well"] * 9)
    with pytest.raises(TargetLost, match=r"target adb:PIXEL.* does not answer: "):
        latency(phone.target())
    assert len(phone.lines("calls")) == 3


@pytest.mark.parametrize(
    ("trouble", "when"),
    [*((GONE, call) for call in (0, 1, 2, 6)), *((cut, call) for cut in ("cut0", "cut255") for call in (0, 3, 6))],
)
def test_a_phone_that_comes_back_is_measured_as_if_nothing_had_been(trouble, when, phone):
    phone.troubles(*["well"] * when, trouble)
    assert len(latency(phone.target()).rounds) == 3


def test_a_serial_number_that_is_not_there_is_lost(phone):
    with pytest.raises(TargetLost, match="device 'NEXUS' not found"):
        targets.find(f"adb:NEXUS?benchmark_model={phone.folder}/benchmark_model").describe()


def test_what_can_not_be_copied_is_told(phone):
    phone.troubles(
        "well", "adb: error: failed to copy 'x' to 'y': remote couldn't create file: No space left on device"
    )
    with pytest.raises(TargetUnavailable, match=r"can't copy to /data/local/tmp/autoopt/.*No space left on device"):
        latency(phone.target())


def test_a_phone_that_does_not_trust_this_machine_is_not_asked_again(phone):
    phone.troubles(UNAUTHORIZED)
    with pytest.raises(ConfigError, match="allow USB debugging on the phone"):
        latency(phone.target())
    assert len(phone.lines("calls")) == 1


@pytest.mark.parametrize("what", [lambda t: t.describe(), latency], ids=["describe", "latency"])
def test_without_adb_the_reader_is_told_how_to_have_it(what, phone, monkeypatch):
    shutil.rmtree(phone.folder / "bin")
    monkeypatch.setenv("PATH", str(phone.folder))
    with pytest.raises(ConfigError, match="adb is not installed"):
        what(phone.target())


@pytest.mark.parametrize("what", [lambda t: t.describe(), latency], ids=["describe", "latency"])
def test_a_binary_that_is_not_there_is_named(what, phone):
    (phone.folder / "benchmark_model").unlink()
    with pytest.raises(ConfigError, match=r"can't read .*/benchmark_model \(No such file or directory\)"):
        what(phone.target())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adb:PIXEL", r"name TensorFlow Lite's binary: \?benchmark_model=PATH"),
        ("adb?benchmark_model=x", "expected adb:SERIAL"),
        ("adb:PIXEL?benchmark_model=x&delegate=tpu", "delegate: expected one of cpu, gpu, nnapi, none, got 'tpu'"),
        ("adb:PIXEL?benchmark=x", "unknown option 'benchmark'; did you mean 'benchmark_model'"),
    ],
)
def test_an_address_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        targets.find(text)
