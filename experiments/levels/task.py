"""The task of `studies/cifar10_resnet8`, its training images mirrored at random; needs data beside the repository, see there."""

import dataclasses
import runpy
from pathlib import Path

import autoopt

plain = runpy.run_path(str(Path(__file__).resolve().parents[2] / "studies" / "cifar10_resnet8" / "task.py"))["task"]


def task() -> autoopt.Task:
    return dataclasses.replace(plain(), augment="flip")
