"""What does each technique bring, alone and with others?

    python experiments/techniques/run.py [STUDY ...] [--minutes M]

Makes the recipes below on ResNet-8/CIFAR-10, DS-CNN/keywords and a CNN on Fashion-MNIST, each technique with the same training as the
recipe that it is read against, and a few combinations with a longer one; integer files are measured once more as the Ethos-U model sees them. Resumable.
Writes README.md beside this script. Needs the data that the studies' `task.py` name; without it nothing is written.
"""

import argparse
import dataclasses
import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Prune, Quantize
from autoopt.search.views import Plain
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
NPU = "vela:ethos-u55-128"
Rows = Sequence[tuple[str, Recipe, Recipe | None]]
"""A name, a recipe, and the one that it is read against (None: the int8 file of the untouched model)."""


def rows(tuning: Finetune) -> Rows:
    """Every technique, then combinations."""
    taught = dataclasses.replace(tuning, distillation=0.5, temperature=2.0)
    half = Recipe(prune=Prune(sparsity=0.5, frequency=20), scheme="int8", finetune=tuning)
    cluster = Recipe(cluster=Cluster(number=16), scheme="int8", finetune=tuning)
    thin = Recipe(channels=Channels(ratio=0.25, multiple=4), scheme="int8", finetune=tuning)
    whole = Quantize(granularity="tensor")
    change = dataclasses.replace
    by_data = change(thin, channels=Channels(ratio=0.25, multiple=4, importance="taylor"))
    thin_taught = change(by_data, finetune=taught)
    folded = change(cluster, cluster=Cluster(number=16, fold=True), quantize=whole)
    qat = change(cluster, scheme="qat_int8")
    by_cost = change(half.prune, allocation="sensitivity")
    return [
        ("int8", Recipe(scheme="int8"), Recipe()),
        ("int8, the most sensitive layer in float", Recipe(scheme="int8", quantize=Quantize(keep=1)), None),
        ("int8, ends in float", Recipe(scheme="int8", quantize=Quantize(keep_ends=True)), None),
        ("int8, ranges by least error", Recipe(scheme="int8", quantize=Quantize(ranges="mse")), None),
        ("int8, ranges by percentile", Recipe(scheme="int8", quantize=Quantize(ranges="percentile")), None),
        ("int8, equalized", Recipe(scheme="int8", quantize=Quantize(equalize=True)), None),
        ("int8, bias corrected", Recipe(scheme="int8", quantize=Quantize(correct_bias=True)), None),
        ("int8, one scale per tensor", Recipe(scheme="int8", quantize=whole), None),
        ("QAT int8", Recipe(scheme="qat_int8", finetune=tuning), None),
        ("25 % fewer channels", thin, None),
        ("… by effect on the loss", by_data, thin),
        ("… and distilled", thin_taught, by_data),
        ("… and statistics anew", change(by_data, finetune=change(tuning, recalibrate=True)), by_data),
        ("… and averaged", change(by_data, finetune=change(tuning, averaging=0.99)), by_data),
        ("50 % pruned", half, None),
        ("… by one threshold", change(half, prune=change(half.prune, allocation="global")), half),
        ("… by sensitivity", change(half, prune=by_cost), half),
        ("… 2:4", change(half, prune=change(half.prune, structure="2:4")), half),
        ("… distilled", change(half, finetune=taught), half),
        ("16 clusters", cluster, None),
        ("… distilled", change(cluster, finetune=taught), cluster),
        ("… in folded kernels, one scale per tensor", folded, cluster),
        ("16 clusters, QAT", qat, cluster),
        ("50 % pruned by sensitivity, 16 clusters, QAT", change(qat, prune=by_cost), qat),
        ("25 % fewer channels, 16 clusters, QAT", change(qat, channels=by_data.channels), qat),
        ("25 % fewer channels, 50 % pruned, 16 clusters, QAT", change(qat, channels=by_data.channels, prune=by_cost), qat),
        ("50 % pruned, 16 clusters in folded kernels, one scale", change(folded, prune=by_cost), folded),
    ]  # fmt: skip


def long_rows(tuning: Finetune) -> Rows:
    """Combinations that are worth a longer training."""
    change = dataclasses.replace
    qat = Recipe(cluster=Cluster(number=16), scheme="qat_int8", finetune=tuning)
    half = Prune(sparsity=0.5, frequency=20, allocation="sensitivity")
    gentle = change(tuning, learning_rate=1e-4)
    folded = Recipe(
        cluster=Cluster(number=16, fold=True), scheme="int8", quantize=Quantize(granularity="tensor"), finetune=gentle
    )
    return [
        ("int8", Recipe(scheme="int8"), Recipe()),
        ("50 % pruned by sensitivity, 16 clusters, QAT", change(qat, prune=half), None),
        ("70 % pruned by sensitivity, 16 clusters, QAT", change(qat, prune=change(half, sparsity=0.7)), None),
        ("50 % pruned, 16 clusters in folded kernels, one scale; at 0.0001", change(folded, prune=half), None),
        ("25 % fewer channels, QAT", Recipe(
            channels=Channels(ratio=0.25, multiple=4), scheme="qat_int8", finetune=tuning), None),
    ]  # fmt: skip


STUDIES = {
    "resnet8": ("ResNet-8 of MLPerf Tiny, CIFAR-10", Finetune(epochs=3, learning_rate=3e-4, batch_size=64)),
    "kws": (
        "DS-CNN of MLPerf Tiny, keyword spotting (299 items to train on, 150 to measure)",
        Finetune(epochs=10, learning_rate=3e-4, batch_size=32),
    ),
    "fashion": ("a small CNN, Fashion-MNIST", Finetune(epochs=3, learning_rate=1e-3, batch_size=64)),
    "resnet8_long": (
        "ResNet-8 again, trained longer, mirrored images too",
        Finetune(epochs=6, learning_rate=5e-4, batch_size=64, averaging=0.995),
    ),
}


PUBLISHED = """\
## Published figures, to read these against

Other models, data and training than here, as their authors give them.

- DS-CNN-L, keyword spotting (Arm, TensorFlow Model Optimization): 50 % pruned and trained with quantization 95.23 -> 94.13 %, zip 5.4 times
  smaller; 32 clusters: zip 1.46 -> 0.39 MB at 95.09 %.
- MobileNet V1, CIFAR-10 (same): clusters and quantization-aware training 94.65 % / 3.00 MB -> 94.52 % / 1.94 MB zip.
- All three techniques together: 6 to 12 times smaller (their tutorial). Deep Compression (Han et al. 2016): 35 to 49 times, on networks of
  mostly fully connected layers.
- int8 on phones (Pixel 2, one core): MobileNet V1 124 -> 64 ms, V2 89 -> 54 ms.
- MLPerf Tiny: ResNet-8 87.19 % float32, 87.04 % int8; DS-CNN 91.3 / 91.6 %.
"""


def for_npu(recipe: Recipe) -> Recipe:
    """The same with integers in and out, which the NPU wants."""
    return dataclasses.replace(recipe, scheme=recipe.scheme + "_io")


def section(title: str, tuning: Finetune, results: SavedResults, npu: SavedResults, wanted: Rows) -> list[str]:
    """One study's table, as Markdown."""
    by_recipe = {c.recipe: c for c in results.candidates}
    on_npu = {c.recipe: c for c in npu.candidates}
    base = by_recipe[Recipe()]
    lines = [
        f"## {title}",
        "",
        f"{tuning.label()} a stage, batches of {tuning.batch_size}. {_line(base)}",
        "",
        "| technique | accuracy, against float32 | against the same without | latency | file | compressed | Ethos-U55-128 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, recipe, without in wanted:
        found = by_recipe.get(recipe)
        if found is None or found.failed:
            lines.append(f"| {name} | {'not made' if found is None else f'failed: {found.reason}'} | | | | | |")
            continue
        other = by_recipe.get(without or Recipe(scheme="int8"))
        cells = [name, _points(results, found, base)]
        cells.append(_points(results, found, other) if other is not None and other is not base else "")
        cells += [_times(found, base, metric) for metric in ("latency_ms", "size_bytes", "compressed_bytes")]
        one, untouched = on_npu.get(for_npu(recipe)), on_npu.get(Recipe(scheme="int8_io"))
        if one is None or one.failed or untouched is None:
            cells.append("–")
        else:
            cells.append(f"{one.measurements['latency_ms'].value:.3g} ms, {_times(one, untouched, 'latency_ms')}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _line(base: Candidate) -> str:
    m = base.measurements
    return (
        f"The untouched float32 model: {m['accuracy'].value:.2%} on validation, {m['latency_ms'].value:.3g} ms, "
        f"{m['size_bytes'].value:,.0f} bytes, {m['compressed_bytes'].value:,.0f} after gzip."
    )


def _points(results: SavedResults, one: Candidate, other: Candidate) -> str:
    """The change of accuracy in points, with its paired 95 % interval."""
    value, low, high = results.difference(one, other)
    return f"{100 * value:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _times(one: Candidate, other: Candidate, metric: str) -> str:
    return f"{other.measurements[metric].value / one.measurements[metric].value:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help=f"one or more of {', '.join(STUDIES)}; default: all"
    )
    parser.add_argument("--minutes", type=float, help="begin nothing new after so many, in each study")
    told = parser.parse_args()
    hours = None if told.minutes is None else told.minutes / 60
    lines = [
        "# What does each technique bring?",
        "",
        f"Written by `run.py`. {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, TensorFlow "
        f"{version('tensorflow')}, litert-quantizer {version('litert-quantizer')}; {datetime.date.today()}; seed 0.",
        "",
        "Accuracy in points on the validation split, with the paired 95 % interval; all else as how many times better than the",
        "untouched float32 model, and on the NPU (Arm's cost model Vela, int8 in and out) than its untouched int8 file. '…' goes",
        "on from the row that it is read against. A training is short here: what a technique loses, a longer one may win back.",
        "",
    ]
    for name in told.studies or STUDIES:
        title, tuning = STUDIES[name]
        wanted = (long_rows if name.endswith("_long") else rows)(tuning)
        view = Plain()
        recipes = list(dict.fromkeys(recipe for _, recipe, _ in wanted))
        results = autoopt.run(HERE / name, recipes=recipes, view=view, hours=hours)
        recipes = [c.recipe for c in results.candidates]
        seen = HERE / name / "npu"
        seen.mkdir(exist_ok=True)
        for file in ("study.yaml", "task.py"):
            text = (HERE / name / file).read_text().replace("[float32, int8]", "[int8_io]")
            (seen / file).write_text(text.replace("parents[3]", "parents[4]"))
        integer = [for_npu(r) for r in recipes if SCHEMES[r.scheme].integer]
        npu = autoopt.run(
            seen, recipes=integer, view=view, target=NPU, store=HERE / name / "out" / "store"
        )  # fmt: skip
        lines += section(title, tuning, results, npu, wanted)
        (HERE / "README.md").write_text("\n".join([*lines, PUBLISHED]), encoding="utf-8")


if __name__ == "__main__":
    main()
