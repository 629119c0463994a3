"""What becomes of a search that is killed, signalled, without room, or whose files are damaged?

    python experiments/faults/run.py [--kills 100] [--signals 20] [--jobs 20] [--servers 20] [--disks 20]
                                     [--records 300] [--models 300] [--seed 0]

Does each fault so often, at random moments, to a study of a few seconds, runs that to its end, and checks: that nothing
finished is lost or made twice, numbers have no gaps, nothing is shown that was not measured, no process is left after 5 s, no
file is left outside of the study, and results equal those of an undisturbed run. Keeps what it found under out/, and writes
README.md beside this script. A number of 0 leaves a kind as it was found before.
"""

import argparse
import collections
import datetime
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
COUNTS = {"kills": 100, "signals": 20, "jobs": 20, "servers": 20, "disks": 20, "records": 300, "models": 300}


def campaign(kind: str, count: int, ground: Any, seed: int) -> dict[str, Any]:
    """What came of doing one kind of fault so often."""
    import faults

    started, wrong = time.monotonic(), []
    for number in range(count):
        found = faults.KINDS[kind](ground, number)
        wrong.append(found)
        if found:
            print(f"{kind} {number}: {'; '.join(found)}", flush=True)
    what = " ".join((faults.KINDS[kind].__doc__ or "").split())
    seconds = time.monotonic() - started
    return {"kind": kind, "what": what, "seed": seed, "wrong": wrong, "seconds": seconds, "machine": machine()}


def machine() -> str:
    """Where this ran."""
    from autoopt.targets.litert_runner import processor

    libraries = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "distributed", "optuna", "psutil"))
    return f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {libraries}"


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    times, right = len(found["wrong"]), sum(not wrong for wrong in found["wrong"])
    counted = collections.Counter(text for wrong in found["wrong"] for text in wrong)
    told = "; ".join(f"{text} ({n})" for text, n in counted.most_common(5)).replace("|", "/") or "nothing"
    each = found["seconds"] / max(1, times)
    return f"| {found['kind']} | {found['what']} | {times} | {right} | {told} | {each:.0f} s | {found['seed']} |"


def report() -> None:
    """Write README.md from what there is."""
    found = [json.loads((OUT / f"{kind}.json").read_text()) for kind in COUNTS if (OUT / f"{kind}.json").exists()]
    times = sum(len(f["wrong"]) for f in found)
    right = sum(not wrong for f in found for wrong in f["wrong"])
    lines = [
        "# What becomes of a search that something happens to?",
        "",
        f"Written by `run.py`. {' / '.join(sorted({f['machine'] for f in found}))}; {datetime.date.today()}.",
        "",
        "Each fault was done at random moments to a study of a few seconds, which was then run to its end. It is right where",
        "nothing finished was lost or made twice, numbers have no gaps, nothing is shown that was not measured, no process was",
        "left after 5 s, no file was left outside of the study, and results equal those of an undisturbed run.",
        "",
        f"**{right} of {times} end right.**",
        "",
        "| kind | what is done | times | right | what was wrong (times) | each | seed |",
        "|---|---|---|---|---|---|---|",
        *(row(f) for f in found),
    ]
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in COUNTS.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    import faults

    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        ground = faults.Ground(Path(place), told.seed)
        print(f"an undisturbed run takes {ground.seconds:.0f} s", flush=True)
        for kind in COUNTS:
            if count := getattr(told, kind):
                found = campaign(kind, count, ground, told.seed)
                (OUT / f"{kind}.json").write_text(json.dumps(found, indent=1))
                print(row(found), flush=True)
    report()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
