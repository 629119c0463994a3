"""`predict.py`: the few lines of Python that run the model, with `own_files`, `table_rows` and `telling` for a person's own files."""

from pathlib import Path
from types import ModuleType

from autoopt.reporting.bundle import own_files, table_rows, telling
from autoopt.reporting.bundle.ends import End, Interface, offset
from autoopt.reporting.bundle.ends import names as called
from autoopt.reporting.bundle.escaping import comment

NAME = "predict.py"
_CODE = '''\
# Runs model.tflite: python {name} photo.png, or x.npy, x.npz, rows.csv; without a file, {which}.
# {title}
import csv
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert numpy, and pillow for images

FOLDER = Path(__file__).parent
interpreter = Interpreter(str(FOLDER / "model.tflite"))
{resize}interpreter.allocate_tensors()


def predict({names}):
    """{doc}"""
{feed}
    interpreter.invoke()
{result}


{own_files}


{table_rows}


{telling}


if __name__ == "__main__":
    main(FOLDER, predict, sys.argv[1:])
'''
_MARK = "# ---- what follows stands in predict.py as it is\n"


def predict_py(interface: Interface) -> str:
    """The text of `predict.py`; quantization, dtypes and shapes are the file's own."""
    ends = interface.inputs
    names = ["x"] if len(ends) == 1 else [f"x{i}" for i in range(len(ends))]
    shapes = [f"({', '.join(map(str, end.item))}{',' * (len(end.item) == 1)})" for end in ends]
    return _CODE.format(
        name=NAME,
        which="the first stored sample" if interface.samples else "zeros, because no samples are stored",
        title=comment(interface.title),
        resize="".join(_resize(i, end) for i, end in enumerate(ends) if end.shape[0] != 1),
        names=", ".join(names),
        doc=interface.doc(shapes),
        feed="\n".join(_feed(i, name, end) for i, (name, end) in enumerate(zip(names, ends, strict=True))),
        result=_result(interface.outputs),
        own_files=_body(own_files),
        table_rows=_body(table_rows),
        telling=_body(telling),
    )


def _body(module: ModuleType) -> str:
    """The text of a module without its imports."""
    return Path(str(module.__file__)).read_text(encoding="utf-8").split(_MARK)[1].strip()


def _resize(index: int, end: End) -> str:
    return (
        f'interpreter.resize_tensor_input(interpreter.get_input_details()[{index}]["index"], {[1, *end.item]})'
        "  # one item at a time\n"
    )


def _feed(index: int, name: str, end: End) -> str:
    if end.scale:
        low, high = end.limits
        values = f"np.asarray({name}, dtype=np.float32) / {end.factor}{offset(end.zero)}"
        taken = f"np.clip(np.round({values}), {low}, {high}).astype(np.{end.dtype})"
    else:
        taken = f"np.asarray({name}, dtype={_dtype(end)})"
    return (
        f"    {name} = {taken}\n"
        f'    interpreter.set_tensor(interpreter.get_input_details()[{index}]["index"], '
        f"{name}.reshape({', '.join(map(str, (1, *end.item)))}))"
    )


def _dtype(end: End) -> str:
    return "bool" if end.dtype == "bool" else f"np.{end.dtype}"


def _result(ends: tuple[End, ...]) -> str:
    read = 'interpreter.get_tensor(interpreter.get_output_details()[{}]["index"])[0]'
    if len(ends) == 1:
        return f"    y = {read.format(0)}\n    return {_real('y', ends[0])}"
    lines = [f"    y{i} = {read.format(i)}" for i in range(len(ends))]
    values = ", ".join(f'"{name}": {_real(f"y{i}", ends[i])}' for i, name in enumerate(called(ends, "output")))
    return "\n".join([*lines, f"    return {{{values}}}"])


def _real(name: str, end: End) -> str:
    """The values that a tensor's integers stand for."""
    return f"({name}.astype(np.float32){offset(-end.zero)}) * {end.factor}" if end.scale else name
