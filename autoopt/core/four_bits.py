"""Whole numbers of 4 bits, two to a byte, as a `.tflite` stores them."""

import numpy as np

LOWEST, HIGHEST = -8, 7
"""What 4 bits hold."""
LEVELS = 2 * HIGHEST + 1
"""Levels that they hold, as many on both sides of zero."""


def packed(integers: np.ndarray) -> np.ndarray:
    """Whole numbers of 4 bits, two to a byte, the first in the lower half, as `graph.unpacked` reads them.

    Args:
        integers: of any shape, each in -8 to 7.

    Returns:
        dtype uint8; the last half byte is 0 where their number is odd.

    Raises:
        ValueError: for a number outside.
    """
    values = np.asarray(integers).reshape(-1)
    if values.size and not (values.min() >= LOWEST and values.max() <= HIGHEST):
        raise ValueError(f"4 bits hold {LOWEST} to {HIGHEST}, got {values.min()} to {values.max()}")
    halves = np.zeros(values.size + values.size % 2, np.uint8)
    halves[: values.size] = values.astype(np.int8).view(np.uint8) & 15
    found: np.ndarray = halves[::2] | halves[1::2] << 4
    return found
