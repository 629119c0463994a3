"""The digits study's own task, with a baseline of its own."""

import importlib.util
from pathlib import Path

import autoopt

OTHER = Path(__file__).resolve().parents[3] / "studies" / "digits" / "task.py"


def task() -> autoopt.Task:
    spec = importlib.util.spec_from_file_location("digits_task", OTHER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BASELINE = Path(__file__).parent / "out" / "baseline.h5"
    made: autoopt.Task = module.task()
    return made
