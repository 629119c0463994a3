"""`predict.py`: the few lines of Python that run the model."""

from autoopt.bundle.ends import End, Interface, offset
from autoopt.bundle.ends import names as called
from autoopt.bundle.escaping import comment

NAME = "predict.py"
_CODE = '''\
# Runs model.tflite on {which}: python {name}
# {title}
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert numpy

FOLDER = Path(__file__).parent
interpreter = Interpreter(str(FOLDER / "model.tflite"))
{resize}interpreter.allocate_tensors()


def predict({names}):
    """{doc}"""
{feed}
    interpreter.invoke()
{result}


if __name__ == "__main__":
{items}
{shown}
'''


def predict_py(interface: Interface) -> str:
    """The text of `predict.py`; quantization, dtypes and shapes are the file's own."""
    ends = interface.inputs
    names = ["x"] if len(ends) == 1 else [f"x{i}" for i in range(len(ends))]
    stored = bool(interface.samples)
    shapes = [f"({', '.join(map(str, end.item))}{',' * (len(end.item) == 1)})" for end in ends]
    calls = ", ".join(_real(name, end) for name, end in zip(names, ends, strict=True))
    return _CODE.format(
        name=NAME,
        which="the first stored sample" if stored else "zeros: no samples are stored",
        title=comment(interface.title),
        resize="".join(_resize(i, end) for i, end in enumerate(ends) if end.shape[0] != 1),
        names=", ".join(names),
        doc=interface.doc(shapes),
        feed="\n".join(_feed(i, name, end) for i, (name, end) in enumerate(zip(names, ends, strict=True))),
        result=_result(interface.outputs),
        items=_items(names, ends, stored),
        shown=_shown(interface, calls),
    )


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


def _items(names: list[str], ends: tuple[End, ...], stored: bool) -> str:
    if not stored:
        return "\n".join(
            f"    {name} = np.zeros({end.item}, {_dtype(end)})" for name, end in zip(names, ends, strict=True)
        )
    reads = (f'    {name} = samples["input_{i}"][0]' for i, name in enumerate(names))
    return "\n".join(['    samples = np.load(FOLDER / "samples.npz", allow_pickle=False)', *reads])


def _shown(interface: Interface, calls: str) -> str:
    if len(interface.outputs) > 1:
        return f"    for name, values in predict({calls}).items():\n        print(name, values.reshape(-1))"
    scores = f"    scores = predict({calls}).reshape(-1)"
    if not interface.classes:
        return f"{scores}\n    print(scores)"
    best = f"int(scores[0] > {interface.threshold})" if interface.binary else "int(scores.argmax())"
    lines, shown = [scores, f"    best = {best}"], "best"
    if interface.labels:
        lines.append('    labels = (FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines()')
        shown = "labels[best] if best < len(labels) else best"
    return "\n".join([*lines, f"    print({shown}, scores.max())"])
