"""Are the numbers right on the models and tasks of public bug reports?

    python experiments/public_cases/run.py [CASE ...] [--at-once 1] [--trials 6]

Puts each case of `cases.py` through `init`, `check` and a short search, as a user would. Every file of the search is then
run by TensorFlow's interpreter (autoopt uses LiteRT's), and its quality computed by scikit-learn on the validation split; the
untouched model's by Keras' `predict`. A case that is meant to be refused must be, in one line. Keeps each case's row under
out/, and writes README.md beside this script from all there are.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
NEAR = {"accuracy": 0.0051, "mae": 0.02}
"""By how much readings may differ: shares by the rounding of a few items, errors as a share of them."""


def examine(name: str, trials: int) -> dict[str, Any]:
    """What became of one case."""
    import cases

    import autoopt
    from autoopt.api import check, init
    from autoopt.errors import AutooptError

    source, build = cases.CASES[name]
    made = build()
    found: dict[str, Any] = {"case": name, "source": source}
    n = len(made.x)
    validation = slice(2 * n // 3, 5 * n // 6)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        predict, path = _saved(made.model, folder)
        splits = {"train": slice(0, 2 * n // 3), "validation": validation, "test": slice(5 * n // 6, n)}
        arrays = {f"{kind}_{part}": a[s] for part, s in splits.items() for kind, a in (("x", made.x), ("y", made.y))}
        np.savez(folder / "data.npz", **arrays)
        try:
            init.create(folder / "study", path, folder / "data.npz", "smoke", trials, lambda said: None)
        except AutooptError as error:
            found["refused"] = str(error).replace(str(folder), "").lstrip("/")
            return found | {"right": bool(made.refused) and made.refused in str(error)}
        if made.refused:
            return found | {"refused": "", "right": False}
        checked = check.check(folder / "study", say=lambda text: None)
        found |= {"check_s": checked.seconds, "works": checked.works, "warnings": checked.warnings}
        started = time.monotonic()
        results = autoopt.run(folder / "study", trials=trials)
        found["run_s"] = time.monotonic() - started
        metric = results.quality
        keras = made.score(made.y[validation], np.asarray(predict(made.x[validation])))
        files = [
            {
                "recipe": c.recipe.label(),
                "autoopt": c.value(metric),
                "independent": _of_file(results, c, made, validation),
            }
            for c in results.candidates
            if not c.failed
        ]
        failed = [f"{c.recipe.label()}: {c.reason}" for c in results.candidates if c.failed]
        found |= {"metric": metric, "keras": keras, "files": files, "failed": failed}
        near = all(_near(metric, f["autoopt"], f["independent"]) for f in files)
        right = metric == made.metric and near and _near(metric, results.baseline.value(metric), keras)
        return found | {"right": right}


def _saved(model: Any, folder: Path) -> tuple[Any, Path]:
    """What predicts, and the path of the saved model."""
    predict, save = model if isinstance(model, tuple) else (model, None)
    if save is None:
        legacy = type(model).__module__.startswith("tf_keras")
        path = folder / ("model.h5" if legacy else "model.keras")
        model.save(path)
    else:
        path = save(folder)
    return (lambda x: predict.predict(x, verbose=0)) if hasattr(predict, "predict") else predict, path


def _of_file(results: Any, candidate: Any, made: Any, part: slice) -> float:
    """A file's quality by TensorFlow's interpreter and scikit-learn."""
    import tensorflow as tf

    file = results.file(candidate)
    try:
        outputs = _outputs(tf.lite.Interpreter(model_content=file), made.x[part])
    except RuntimeError:  # TensorFlow's default delegate can't resize some graphs
        plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        outputs = _outputs(tf.lite.Interpreter(model_content=file, experimental_op_resolver_type=plain), made.x[part])
    return made.score(made.y[part], outputs)


def _outputs(interpreter: Any, x: np.ndarray) -> np.ndarray:
    """What an interpreter gives, item by item."""
    [before], [after] = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for item in x:
        interpreter.resize_tensor_input(before["index"], (1, *item.shape))
        interpreter.allocate_tensors()
        interpreter.set_tensor(before["index"], _stored(item[None], before))
        interpreter.invoke()
        outputs.append(_real(interpreter.get_tensor(after["index"]), after))
    return np.concatenate(outputs)


def _stored(values: np.ndarray, detail: Any) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return values.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale + zero), limits.min, limits.max).astype(detail["dtype"])


def _real(values: np.ndarray, detail: Any) -> np.ndarray:
    scale, zero = detail["quantization"]
    return (values.astype(np.float32) - zero) * scale if scale else values


def _near(metric: str, one: float, other: float) -> bool:
    far = abs(one - other)
    return far <= (NEAR[metric] if metric == "accuracy" else NEAR[metric] * abs(other) + 1e-6)


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    source = found["source"]
    if re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", source):
        repository, _, number = source.partition("#")
        source = f"[{source}](https://github.com/{repository}/issues/{number})"
    verdict = "right" if found["right"] else "**wrong**"
    if "error" in found:
        return f"| {found['case']} | {source} | | | | | | | {verdict}: {found['error']} |"
    if "refused" in found:
        return f"| {found['case']} | {source} | | | | | | | {verdict}: {found['refused'] or 'was not refused'} |"
    metric, files = found["metric"], found["files"]
    show = (lambda v: f"{v:.2%}") if metric == "accuracy" else (lambda v: f"{v:.4g}")
    far = max(abs(f["autoopt"] - f["independent"]) for f in files)
    failed = "; ".join(found["failed"]).replace("|", "/") or "none"
    differ = [f for f in files if not _near(metric, f["autoopt"], f["independent"])]
    verdict += "".join(
        f"; {f['recipe']}: {show(f['autoopt'])} by LiteRT, {show(f['independent'])} by TensorFlow's interpreter"
        for f in differ
    )
    works = f"{found['check_s']:.0f} s" + ("" if found["works"] else ", not all works")
    return (
        f"| {found['case']} | {source} | {metric} | {show(found['keras'])} | {show(files[0]['autoopt'])} | {len(files)} | "
        f"{show(far)} | {works} | {verdict}; failed: {failed} |"
    )


def report() -> None:
    """Write README.md from the rows that there are."""
    found = [json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"))]
    right = sum(f["right"] for f in found)
    machine = {f["machine"] for f in found}
    lines = [
        "# Are the numbers right on anyone's task?",
        "",
        f"Written by `run.py`. {' / '.join(sorted(machine))}; {datetime.date.today()}.",
        "",
        "Small models and data in the situation of public bug reports (and of our own), put through `init --space smoke`, `check`",
        "and a short search. *Keras* is scikit-learn's metric of what Keras predicts on the validation split, *file* what autoopt",
        "says of the untouched model's file, and *off* by how much autoopt's reading of any file of the search differs from",
        "scikit-learn's of what TensorFlow's own interpreter gives. Seeds are 0. A case that must be refused shows the line.",
        "",
        f"**{right} of {len(found)} cases end right.**",
        "",
        "| case | after | metric | Keras | file | files | off, at most | check | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(f) for f in found),
    ]
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def one(name: str, trials: int) -> None:
    """Examine a case in this process, and keep its row."""
    from autoopt.targets.litert_runner import processor

    warnings.simplefilter("ignore")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = examine(name, trials)
    except Exception as error:  # a case that breaks is a row of the table, and not its end
        import cases

        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].replace("|", "/")
        found = {"case": name, "source": cases.CASES[name][0], "error": reason, "right": False}
    libraries = ", ".join(
        f"{n} {version(n)}" for n in ("tensorflow", "keras", "tf-keras", "ai-edge-litert", "scikit-learn")
    )
    found["machine"] = f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {libraries}"
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name.replace(' ', '_')}.json").write_text(json.dumps(found, indent=1))
    print(row(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="by name; default: all")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.here:
        return one(told.cases[0], told.trials)
    import cases

    def apart(name: str) -> None:
        line = [sys.executable, str(Path(__file__)), name, "--trials", str(told.trials), "--here"]
        subprocess.run(line, check=False, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(told.at_once) as pool:
        list(pool.map(apart, told.cases or list(cases.CASES)))
    report()
    return None


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
