"""Results as a night on a real model gives them, and hostile ones."""

import json

from autoopt.core.budgets import parse
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import STANDARD, Measurement, Metric, wilson
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.study.folder import StudyFolder

METRICS = {"accuracy": Metric(name="accuracy", direction="max", unit="fraction")} | dict(STANDARD)
HOSTILE = "<script>alert(1)</script>"


def measured(accuracy, latency_ms, size, compressed, n=2500, memory=None):
    hits = round(accuracy * n)
    low, high = wilson(hits, n)
    found = {
        "accuracy": Measurement(value=hits / n, low=low, high=high, n=n, how="LiteRT, validation split"),
        "size_bytes": Measurement.exact(size, "the file"),
        "compressed_bytes": Measurement.exact(compressed, "gzip -9"),
    }
    if latency_ms is not None:
        found["latency_ms"] = Measurement(
            value=latency_ms, low=latency_ms * 0.99, high=latency_ms * 1.012, n=5, how="host, 1 thread, 5 x 30 pairs"
        )
    if memory is not None:
        found["memory_bytes"] = Measurement.exact(memory, "VmHWM")
    return found


def candidate(number, accuracy=0.86, latency_ms=0.1, size=95_904, compressed=78_900, recipe=None, **more):
    return Candidate(
        number=number,
        recipe=recipe or Recipe(scheme="int8", seed=number),
        measurements=measured(accuracy, latency_ms, size, compressed),
        sha256=f"{number:064x}",
        **more,
    )


def failure(number, stage="qat", reason="no QAT config for Multiply", **more):
    return Candidate(
        number=number, recipe=Recipe(scheme="qat_int8", seed=number), failed_stage=stage, reason=reason, **more
    )


def baseline(number=0, **more):
    values = {"accuracy": 0.8716, "latency_ms": 0.256, "size": 318_292, "compressed": 292_019} | more
    return candidate(number, recipe=Recipe(), origin="baseline", **values)


def results(*candidates, budgets=(), **more):
    values = {
        "study": "resnet8",
        "metrics": METRICS,
        "quality": "accuracy",
        "objectives": ("accuracy", "latency_ms", "compressed_bytes"),
        "budgets": tuple(parse(text, METRICS) for text in budgets),
        "candidates": candidates,
        "provenance": {"finished": "2026-11-21 08:00", "host": {"cpu": "x86-64", "cores": 2}, "versions": ["a", "b"]},
    }
    return Results(**values | more)


def realistic():
    """About thirty candidates as a night on ResNet-8 and CIFAR-10 gives them."""
    found = [
        baseline(seconds=30),
        candidate(1, 0.8712, 0.262, 162_100, 146_300, Recipe(scheme="float16"), origin="scheme"),
        candidate(2, 0.8704, 0.121, 98_000, 80_100, Recipe(scheme="dynamic"), origin="scheme"),
        candidate(3, 0.8660, 0.079, 95_904, 78_900, Recipe(scheme="int8"), origin="scheme"),
        candidate(4, 0.8708, 2.31, 101_000, 81_700, Recipe(scheme="int16x8"), origin="scheme"),
    ]
    for number in range(5, 28):
        sparsity, clusters = (0, 0.3, 0.5, 0.6, 0.7, 0.8)[number % 6], (0, 16, 32, 8)[number % 4]
        scheme = ("int8", "float32", "qat_int8", "int8_io", "dynamic")[number % 5]
        recipe = Recipe(
            prune=Prune(sparsity=sparsity) if sparsity else None,
            cluster=Cluster(number=clusters, per_channel=number % 8 == 3) if clusters else None,
            scheme=scheme,
            finetune=Finetune(epochs=1 + number % 3),
            seed=number,
        )
        accuracy = 0.873 - 0.1 * sparsity**3 - (0.3 / clusters**1.2 if clusters else 0) - 0.004 * (number % 3)
        small = 292_019 if scheme == "float32" else 78_900
        compressed = int(small * (1 - 0.55 * sparsity) * (0.8 if clusters else 1)) + 97 * number
        latency = {"float32": 0.256, "dynamic": 0.121}.get(scheme, 0.079) * (1 + 0.01 * (number % 4))
        found.append(
            candidate(
                number, accuracy, latency, 318_292 if scheme == "float32" else 95_904, compressed, recipe, seconds=700
            )
        )
    found += [failure(28), failure(29), failure(30, "convert", "float fallback: CONV_2D left float32 in an int8 file")]
    return results(
        *found,
        budgets=["accuracy >= baseline - 4 %", "compressed_bytes <= 100 KB", "latency_ms <= 0.15 ms"],
        provenance={
            "finished": "2026-11-21 07:58",
            "task": {"fingerprint": "9f2c" * 16, "train items": 10000, "validation items": 2500},
            "host": {"cpu": "Intel Xeon", "cores": 2, "threads": 1},
            "libraries": {"tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"},
            "protocol": ["batch 1", "interleaved with the baseline", "ratio of p10s"],
        },
    )


def hostile():
    """Every text that comes from outside is an attack."""
    label = Metric(name="accuracy", direction="max", unit="fraction", label=HOSTILE)
    measurements = {
        name: Measurement(value=m.value, low=m.low, high=m.high, n=m.n, how=HOSTILE, flags=(HOSTILE,))
        for name, m in measured(0.8, 0.1, 9, 8).items()
    }
    bad = Candidate(number=1, recipe=Recipe(scheme="int8"), measurements=measurements, sha256=HOSTILE)
    return results(
        baseline(),
        bad,
        failure(2, HOSTILE, HOSTILE + "<!--"),
        study=HOSTILE,
        metrics=METRICS | {"accuracy": label},
        budgets=["size_bytes <= 1 KB"],
        provenance={HOSTILE: {HOSTILE: HOSTILE}, "date": HOSTILE, "class_names": [HOSTILE], "folder": HOSTILE},
    )


def saved(night, folder):
    """The study's folder as the command line reads it."""
    paths = StudyFolder(folder)
    paths.candidates.mkdir(parents=True)
    quality = night.metrics[night.quality]
    header = {
        "study": night.study,
        "quality": {"name": quality.name, "direction": quality.direction, "unit": quality.unit},
        "objectives": list(night.objectives),
        "budgets": [b.text for b in night.budgets],
        "provenance": dict(night.provenance),
    }
    paths.header.write_text(json.dumps(header))
    for c in night.candidates:
        paths.candidate_file(c.number).write_text(json.dumps(c.to_dict()))
