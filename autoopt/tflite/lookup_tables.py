"""Tables that are looked up, such as embeddings, in float16 or int8: litert-quantizer leaves them in float32 there.

So it does with factors of a product of matrices and kernels of three dimensions, which have halves here too.

They are stored as TensorFlow's own converter does it: halves are made float32 when the file is loaded; of integers, which
have one scale, only the rows that were looked up are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from autoopt.tflite.graph import Graph

READERS: Mapping[str, Mapping[str, Sequence[int]]] = {
    "float16": {"GATHER": (0,), "BATCH_MATMUL": (0, 1), "CONV_3D": (1,)},
    "dynamic": {"GATHER": (0,)},
}
"""By scheme: operators, and at which of their inputs they read what is stored in another way."""
LARGEST = 127


def store(file: bytes, scheme: str) -> bytes:
    """The file with its float32 tables in half precision or in integers.

    A table that something else reads too, such as a dense layer that shares it, is left as it is.

    Args:
        file: the `.tflite`.
        scheme: `float16` or `dynamic`.

    Returns:
        a `.tflite`; `file` itself where there is no such table.
    """
    graph = Graph(file)
    tables = _tables(graph, READERS[scheme])
    (_halve if scheme == "float16" else _round)(graph, tables)
    return graph.to_bytes() if tables else file


def _tables(graph: Graph, readers: Mapping[str, Sequence[int]]) -> list[int]:
    """The float32 constants that these operators alone read, at these inputs."""

    def fits(tensor: int, place: int) -> bool:
        inputs = graph.operators[place].inputs
        return any(inputs[number] == tensor for number in readers.get(graph.kind(place), ()))

    return [
        tensor
        for tensor, places in graph.readers.items()
        if graph.is_constant(tensor)
        and graph.dtype(tensor) == "FLOAT32"
        and all(fits(tensor, place) for place in places)
    ]


def _halve(graph: Graph, tables: Sequence[int]) -> None:
    wholes = {table: graph.add_tensor(table, "FLOAT32", "_whole") for table in tables}
    for table, whole in wholes.items():
        graph.store(table, graph.constant(table).astype(np.float16), "FLOAT16")
        for place in graph.readers[table]:
            graph.read_instead(place, table, whole)
    for table, whole in wholes.items():
        graph.dequantize(table, whole, before=0)


def _round(graph: Graph, tables: Sequence[int]) -> None:
    scales = {}
    for table in tables:
        values = graph.constant(table)
        scales[table] = float(np.abs(values).max(initial=0.0)) / LARGEST or 1.0
        graph.store(table, np.round(values / scales[table]).astype(np.int8), "INT8")
        graph.set_scale(table, scales[table])
    lookups = {place: table for table in tables for place in graph.readers[table]}
    for place in sorted(lookups, reverse=True):  # from the last on: those before keep their places
        output = int(graph.operators[place].outputs[0])
        rows = graph.add_tensor(output, "INT8", "_rows")
        graph.set_scale(rows, scales[lookups[place]])
        graph.write_instead(place, output, rows)
        graph.dequantize(rows, output, before=place + 1)
