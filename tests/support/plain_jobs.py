"""A job that runs a file and needs no TensorFlow: for tests of the processes that jobs run in, whatever they compute.

A server of jobs that imports this module in place of the libraries starts in a moment. Importing it changes the table of jobs:
it is for such servers alone.
"""

import dataclasses
import runpy

from autoopt.execution.jobs import JOBS, Context


def run_file(context: Context) -> bytes:
    runpy.run_path(context.settings["path"])
    return b""


JOBS["task"] = dataclasses.replace(JOBS["task"], body=run_file)
