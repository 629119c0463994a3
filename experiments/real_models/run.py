"""Search two real models, 20 trials each, and write what came out.

    python experiments/real_models/run.py [STUDY ...]

Runs `studies/cifar10_resnet8` and `studies/fashion_mnist` (resuming what is there), and writes `README.md`
beside this file: the front of each, with machine, versions, seeds and where the time went. Needs the data that the studies' `task.py` name; without it
nothing is written.
"""

import datetime
import sys
from pathlib import Path

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.core.candidate import Candidate
from autoopt.core.formatting import duration
from autoopt.search.views import Plain

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STUDIES = ("cifar10_resnet8", "fashion_mnist")
COLUMNS = ("latency_ms", "size_bytes", "compressed_bytes", "memory_bytes")


def confirmed(results: SavedResults, candidate: Candidate) -> str:
    """The quality on the test split, with its change there."""
    again, metric, baseline = candidate.confirmation, results.metrics[results.quality], results.baseline
    if again is None or baseline is None:
        return "–"
    found = None if candidate is baseline else results.confirmed_difference(candidate, baseline)
    change = "" if found is None else f" ({metric.show_change(found[0], 0)})"
    return metric.show(again.quality.value) + change


def section(results: SavedResults) -> list[str]:
    """One study's table, as Markdown."""
    baseline = results.baseline
    assert baseline is not None
    metrics = [results.quality, *COLUMNS]
    titles = [results.metrics[name].label for name in metrics]
    titles.append("confirmed: on the test split")
    lines = [f"## {results.study}", "", f"| | recipe | {' | '.join(titles)} |", f"|{'---|' * (len(titles) + 2)}"]
    front = results.front()
    reference = [c for c in results.candidates if c.origin != "search" and c not in front]
    picked = results.pick().candidate
    for c in [*reference, *front]:
        cells = []
        for name in metrics:
            m, metric = c.measurements[name], results.metrics[name]
            change = "" if c is baseline else f" ({metric.show_change(m.value, baseline.measurements[name].value)})"
            cells.append(metric.show(m.value) + ("*" if m.flags else "") + change)
        cells.append(confirmed(results, c))
        mark = "**pick**" if c is picked else results.statuses()[c.number] if c in reference else ""
        lines.append(f"| {c.name} {mark} | {c.recipe.label()} | {' | '.join(cells)} |")
    failed = [c for c in results.candidates if c.failed]
    p, time = results.provenance, results.provenance["time"]
    lines += ["", "\\* wide interval", ""]
    lines += [f"- budgets: {'; '.join(b.text for b in results.budgets)}"]
    lines += [f"- {len(results.candidates)} candidates, {len(failed)} failed"]
    lines += [f"  - {c.name} {c.recipe.label()}: {c.failed_stage}: {c.reason}" for c in failed]
    lines += [
        f"- items: {', '.join(f'{name} {n}' for name, n in p['items'].items())}; accuracy on validation",
        f"- time: {duration(time['jobs_s'])} in jobs, {duration(time['saved_by_store_s'])} saved by sharing results, "
        f"{duration(time['overhead_s'])} overhead ({time['overhead_s'] / time['jobs_s']:.1%} of the time in jobs)",
        f"- {p['device']['processor']}, {p['device']['cores']} cores; latency with {p['threads']} thread(s); seed {p['seed']}; {p['date']}",
        f"- {', '.join(f'{name} {number}' for name, number in p['libraries'].items())}, Python {p['python']}",
        "",
    ]
    return lines


def main() -> None:
    chosen = sys.argv[1:] or STUDIES
    lines = [
        "# Real models, 20 trials each",
        "",
        "Written by `run.py`. Each study's references (the float32 baseline and its post-training schemes, where they",
        "are not on the front) and its front, measured on the files themselves. A search this short shows that the",
        "whole way works on real models; it is no claim about the best that can be had.",
        "",
    ]
    for name in chosen:
        view = Plain()
        view.note(f"{name}: {datetime.datetime.now(datetime.UTC):%H:%M}")
        lines += section(autoopt.run(ROOT / "studies" / name, view=view))
    (HERE / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
