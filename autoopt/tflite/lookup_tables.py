"""Tables that are looked up, such as embeddings, in float16 or int8: litert-quantizer leaves them in float32 there.

So it does with factors of a product of matrices and kernels of three dimensions, which have halves here too.

They are stored as TensorFlow's own converter does it: halves are made float32 when the file is loaded; of integers, which
have one scale, only the rows that were looked up are.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from autoopt.core.four_bits import packed
from autoopt.tflite.graph import Graph
from autoopt.tflite.packing import nearest

READERS: Mapping[str, Mapping[str, Sequence[int]]] = {
    "float16": {"GATHER": (0,), "BATCH_MATMUL": (0, 1), "CONV_3D": (1,)},
    "dynamic": {"GATHER": (0,)},
}
"""By scheme: operators, and at which of their inputs they read what is stored in another way."""
LARGEST = 127


def store(file: bytes, scheme: str, few: Collection[str] = ()) -> bytes:
    """The file with its float32 tables in half precision or in integers.

    A table that something else reads too, such as a dense layer that shares it, is left as it is.

    Args:
        file: the `.tflite`.
        scheme: `float16` or `dynamic`.
        few: names of tables whose integers have 4 bits.

    Returns:
        a `.tflite`; `file` itself where there is no such table.
    """
    graph = Graph(file)
    found = tables(graph, scheme)
    if scheme == "float16":
        _halve(graph, found)
    else:
        _round(graph, found, few)
    return graph.to_bytes() if found else file


def tables(graph: Graph, scheme: str) -> list[int]:
    """The float32 constants that are tables in a scheme: the operators of `READERS` alone read them, at those inputs."""
    readers = READERS[scheme]

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


def _round(graph: Graph, tables: Sequence[int], few: Collection[str]) -> None:
    scales, dtypes = {}, {}
    for table in tables:
        values = graph.constant(table)
        if graph.name(table) in few:
            grid = nearest(values, 0, per_channel=False)
            scales[table], dtypes[table], stored = float(grid.scales[0]), "INT4", packed(grid.integers)
        else:
            scales[table], dtypes[table] = float(np.abs(values).max(initial=0.0)) / LARGEST or 1.0, "INT8"
            stored = np.round(values / scales[table]).astype(np.int8)
        graph.store(table, stored, dtypes[table])
        graph.set_scale(table, scales[table])
    lookups = {place: table for table in tables for place in graph.readers[table]}
    for place in sorted(lookups, reverse=True):  # from the last on: those before keep their places
        output = int(graph.operators[place].outputs[0])
        rows = graph.add_tensor(output, dtypes[lookups[place]], "_rows")
        graph.set_scale(rows, scales[lookups[place]])
        graph.write_instead(place, output, rows)
        graph.dequantize(rows, output, before=place + 1)
