"""What flows through a `.tflite`, tensor by tensor, while it runs over data."""

from collections.abc import Callable, Iterator

import numpy as np

from autoopt.models.task import Inputs
from autoopt.tflite.interpreter import dequantize, input_details, items_at_once, quantize

BATCH = 16
"""Items at once: every tensor of a batch is in memory."""


def batches(file: bytes, inputs: Inputs, threads: int) -> Iterator[Callable[[int], np.ndarray]]:
    """Run a file over data with the runtime's own kernels, and look at any tensor.

    A delegate such as XNNPACK, which is faster, hides what flows inside it.

    Args:
        file: the `.tflite`.
        inputs: by input name, each of shape (items, ...).
        threads: of the interpreter.

    Yields:
        for each batch: the values of a tensor by its index, as float32, shape (items, ...).
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=file,
        num_threads=threads,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    details = input_details(interpreter, inputs)
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}

    def value(index: int) -> np.ndarray:
        return dequantize(interpreter.get_tensor(index), tensors[index])

    size = items_at_once(details.values(), BATCH)
    for start in range(0, len(next(iter(inputs.values()))), size):
        batch = {name: array[start : start + size] for name, array in inputs.items()}
        for name, detail in details.items():
            interpreter.resize_tensor_input(detail["index"], batch[name].shape)
        interpreter.allocate_tensors()
        for name, detail in details.items():
            interpreter.set_tensor(detail["index"], quantize(batch[name], detail))
        interpreter.invoke()
        yield value
