"""The task of `studies/fashion_mnist`; needs data beside the repository, see there."""

import runpy
from pathlib import Path

task = runpy.run_path(str(Path(__file__).resolve().parents[3] / "studies" / "fashion_mnist" / "task.py"))["task"]
