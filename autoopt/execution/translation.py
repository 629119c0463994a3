"""Has TensorFlow translate, once for all jobs, the functions that each of them would translate anew: half of a training's start.

TensorFlow turns the Python of whatever is called in a graph into Python that builds one (autograph), and keeps that as long as
the process lives. What the server of jobs has translated, the jobs that are forked from it have too. A function that a version
of a library hasn't, or that can't be translated, is left to the jobs, which then do as they would without this.
"""

import contextlib
from collections.abc import Iterator

from autoopt.compression.tfmot_internals import TRAINED_BY
from autoopt.models.keras_internals import GIVEN, function_at, translate

OWN_GIVEN = {"autoopt.tflite.conversion": ("_save.serve",)}
OWN = {
    "autoopt.compression.batches": ("batches.order", "batches.gather"),
    "autoopt.compression.levels": ("_on_grid.OnGrid.call", "_on_grid.OnGrid._kernel"),
    "autoopt.compression.quantization_aware": ("_Quantizing.__call__",),
    "autoopt.compression.wrapping": ("Keeping.kept",),
}
"""Functions of autoopt's own that are given to `tf.function`, and that are called by such, by module."""


def translated() -> Iterator[tuple[str, str, bool]]:
    """Module, path and `given` (see `keras_internals`) of each function that is translated."""
    for tables, given in (((GIVEN, OWN_GIVEN), True), ((TRAINED_BY, OWN), False)):
        for table in tables:
            for module, paths in table.items():
                for path in paths:
                    yield module, path, given


def prepare() -> None:
    """Have them all translated."""
    for module, path, given in translated():
        with contextlib.suppress(Exception):  # the job that needs it says what is wrong with it
            translate(function_at(module, path), given=given)
