"""What do learned levels bring, against pruning, clusters and quantization-aware training of equal length?

    python experiments/levels/run.py [--seeds N] [--minutes M]

Makes the recipes below on ResNet-8/CIFAR-10 (10,000 training images, mirrored at random, distilled), the first ones with several seeds.
Resumable. Writes README.md beside this script. Needs the data that `studies/cifar10_resnet8/task.py` names; without it nothing is
written. Accuracy on the test split is computed here, by the LiteRT interpreter alone.
"""

import argparse
import dataclasses
import datetime
import functools
import os
import platform
import statistics
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from task import task as read_task

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Levels, Prune, Quantize
from autoopt.search.views import Plain
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
BATCH = 100
KEY = 4
"""So many rows, the first ones, are made with several seeds."""


def rows() -> Sequence[tuple[str, Recipe]]:
    """Names and recipes, without seeds; first the ones of about equal seconds."""
    tuning = Finetune(epochs=15, batch_size=64, distillation=0.5, temperature=4.0)
    ranges = Quantize(ranges="mse")
    change = dataclasses.replace

    def levels(number: int, **more: object) -> Recipe:
        return Recipe(levels=Levels(number=number), scheme="int8", quantize=ranges, finetune=tuning, **more)  # type: ignore[arg-type]

    half = change(tuning, epochs=6, learning_rate=5e-4)
    third = change(tuning, epochs=4, learning_rate=5e-4)
    qat = Recipe(cluster=Cluster(number=16), scheme="qat_int8", finetune=half)
    fours = change(ranges, int4_share=0.99)
    short = change(tuning, epochs=3)
    return [
        ("7 levels", levels(7)),
        ("7 levels, 4 bits but for the ends", change(levels(7), quantize=fours)),
        ("5 levels", levels(5)),
        ("5 levels, 4 bits but for the ends", change(levels(5), quantize=fours)),
        ("7 levels, without the penalty", change(levels(7), levels=Levels(number=7, penalty=0))),
        ("15 levels, 3 epochs", change(levels(15), finetune=short)),
        ("15 levels, 3 epochs, 4 bits but for the ends", change(levels(15), finetune=short, quantize=fours)),
        ("7 levels, 3 epochs", change(levels(7), finetune=short)),
        ("16 clusters, QAT (6 epochs each)", qat),
        ("50 % pruned by sensitivity, 16 clusters, QAT (4 epochs each)", change(
            qat, prune=Prune(sparsity=0.5, frequency=20, allocation="sensitivity"), finetune=third)),
        ("3 levels", levels(3)),
        ("25 % fewer channels, 7 levels (15 epochs each)", change(
            levels(7), channels=Channels(ratio=0.25, multiple=4, solve=True), finetune=change(tuning, learning_rate=3e-3))),
    ]  # fmt: skip


@functools.cache
def test_split() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that no candidate was chosen by."""
    images, labels = read_task().test
    return images.astype(np.float32), labels


def accuracy(file: bytes) -> float:
    """Share of the test split that a file gets right, by LiteRT."""
    interpreter = Interpreter(model_content=file, num_threads=1)
    [given], images = interpreter.get_input_details(), test_split()[0]
    interpreter.resize_tensor_input(given["index"], [BATCH, *images.shape[1:]])
    interpreter.allocate_tensors()
    [output], right = interpreter.get_output_details(), 0
    for at in range(0, len(images) - len(images) % BATCH, BATCH):
        interpreter.set_tensor(given["index"], images[at : at + BATCH])
        interpreter.invoke()
        right += int((interpreter.get_tensor(output["index"]).argmax(axis=1) == test_split()[1][at : at + BATCH]).sum())
    return right / (len(images) - len(images) % BATCH)


def deflated(file: bytes) -> int:
    """Bytes of the smallest of zlib's own gzips."""
    sizes = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE):
        for memory in (8, 9):
            made = zlib.compressobj(9, zlib.DEFLATED, 31, memory, strategy)
            sizes.append(len(made.compress(file) + made.flush()))
    return min(sizes)


def line(name: str, found: Sequence[Candidate], results: SavedResults, base: Candidate) -> str:
    """One row: means over the seeds that are made."""
    if not found:
        return f"| {name} | not made | | | | | | |"
    whole, untouched = results.file(base), accuracy(results.file(base))
    validation = [100 * (c.measurements["accuracy"].value - base.measurements["accuracy"].value) for c in found]
    files = [results.file(c) for c in found]
    test = [100 * (accuracy(file) - untouched) for file in files]
    gzip = [c.measurements["compressed_bytes"].value for c in found]
    latency = statistics.mean(c.measurements["latency_ratio"].value for c in found)
    seconds = statistics.mean(sum(report["seconds"] for report in c.report) for c in found)
    cells = [
        name,
        str(len(found)),
        f"{statistics.mean(validation):+.2f} ({min(validation):+.1f} to {max(validation):+.1f})",
        f"{statistics.mean(test):+.2f} ({min(test):+.1f} to {max(test):+.1f})",
        f"{statistics.mean(gzip):,.0f}, {base.measurements['compressed_bytes'].value / statistics.mean(gzip):.2f}x",
        f"{statistics.mean(map(deflated, files)):,.0f}, {deflated(whole) / statistics.mean(map(deflated, files)):.2f}x",
        f"{statistics.mean(map(len, files)):,.0f}",
        f"{latency:.2f}",
        f"{seconds:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of every recipe; default: 3")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so many")
    told = parser.parse_args()
    hours = None if told.minutes is None else told.minutes / 60
    first, others = ([recipe for _, recipe in some] for some in (rows()[:KEY], rows()[KEY:]))
    again = [dataclasses.replace(recipe, seed=seed) for seed in range(1, told.seeds) for recipe in first]
    recipes = [Recipe(), Recipe(scheme="int8"), *first, *again, *others]
    results = autoopt.run(HERE, recipes=recipes, view=Plain(), hours=hours)
    made = {c.recipe: c for c in results.candidates if not c.failed}
    base = made[Recipe()]
    lines = [
        "# What do learned levels bring?",
        "",
        f"Written by `run.py`. {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, TensorFlow "
        f"{version('tensorflow')}, litert-quantizer {version('litert-quantizer')}; {datetime.date.today()}.",
        "",
        "ResNet-8 of MLPerf Tiny on CIFAR-10: 10,000 training images, mirrored at random, distilled from the untouched model (half of",
        "the loss, temperature 4), 15 epochs in batches of 64 where nothing else is said. Means over the seeds, with the lowest and the",
        "highest; accuracy in points against the untouched float32 file, on 2,500 images that epochs were chosen by and on 2,500 others.",
        "Bytes after `gzip -9`, and after the best of zlib's strategies, which every gunzip reads; the untouched file has "
        f"{base.measurements['compressed_bytes'].value:,.0f}. Latency is a share of float32's. Seconds are of training, on a machine that did "
        "other work beside.",
        "",
        "| recipe | seeds | validation | test | gzip -9 | best gzip | file | latency | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in (("int8, not trained", Recipe(scheme="int8")), *rows()):
        seeds = [dataclasses.replace(recipe, seed=seed) for seed in range(told.seeds)]
        lines.append(line(name, [made[one] for one in seeds if one in made], results, base))
    (HERE / "README.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
