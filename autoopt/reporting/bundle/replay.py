"""Runs a `.tflite` over a few items, one at a time, on one thread. Stands alone: a file may take its process with it.

Called with a folder that holds `model.tflite` and `asked.npz`: `input_0`, `input_1`, ... in the file's order and
dtypes, each of shape (items, ...); or, with `names`, real values by the task's input names. Writes `answer.npz`:
`input_0`, ... as the file took them, `output_0`, ... as it gave them, and `steps`: for each output the smallest
difference between two values of floats that were scaled back from integers, else 0.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Do what the folder asks for."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=1)
    details, ends = interpreter.get_input_details(), interpreter.get_output_details()
    answer: dict[str, Any] = {"steps": [step(interpreter, end["index"]) for end in ends]}
    with np.load(folder / "asked.npz", allow_pickle=False) as asked:
        arrays = [asked[f"input_{i}"] for i in range(len(details))]
        if "names" in asked:
            order = places(interpreter, [str(name) for name in asked["names"]])
            arrays = [quantize(arrays[place], detail) for place, detail in zip(order, details, strict=True)]
    for array, detail in zip(arrays, details, strict=True):
        if array.dtype != detail["dtype"] or array.shape[1:] != tuple(detail["shape"][1:]):
            raise ValueError(f"{detail['name']} takes {detail['shape']} of {np.dtype(detail['dtype'])}")
        if detail["shape"][0] != 1:
            interpreter.resize_tensor_input(detail["index"], [1, *array.shape[1:]])
    interpreter.allocate_tensors()
    outputs: list[list[np.ndarray]] = [[] for _ in ends]
    for item in zip(*arrays, strict=True):
        for array, detail in zip(item, details, strict=True):
            interpreter.set_tensor(detail["index"], array[None])
        interpreter.invoke()
        for end, found in zip(ends, outputs, strict=True):
            found.append(interpreter.get_tensor(end["index"])[0])
    answer |= {f"input_{i}": array for i, array in enumerate(arrays)}
    answer |= {f"output_{i}": np.array(found) for i, found in enumerate(outputs)}
    np.savez(folder / "answer.npz", **answer)


def places(interpreter: Any, names: list[str]) -> list[int]:
    """For each of the file's inputs its place among the task's, by the signature; without one, order decides."""
    details, signatures = interpreter.get_input_details(), interpreter.get_signature_list()
    if len(signatures) == 1:
        found = interpreter.get_signature_runner(next(iter(signatures))).get_input_details()
        if set(found) == set(names):
            by_tensor = {detail["index"]: names.index(name) for name, detail in found.items()}
            return [by_tensor[detail["index"]] for detail in details]
    return list(range(len(details)))


def quantize(array: np.ndarray, detail: Any) -> np.ndarray:
    """Real values in the dtype of a tensor, by its scale and zero point if it is quantized."""
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if scale and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = np.clip(np.round(array / scale + zero), limits.min, limits.max)
    return array.astype(dtype)


def step(interpreter: Any, tensor: int) -> float:
    """The scale of the integers that a tensor is scaled back from, or 0."""
    scales = {detail["index"]: detail["quantization"][0] for detail in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        if operator["op_name"] == "DEQUANTIZE" and tensor in operator["outputs"]:
            return float(scales[operator["inputs"][0]])
    return 0.0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
