"""The task of `studies/cifar10_resnet8`; needs data beside the repository, see there."""

import runpy
from pathlib import Path

task = runpy.run_path(str(Path(__file__).resolve().parents[3] / "studies" / "cifar10_resnet8" / "task.py"))["task"]
