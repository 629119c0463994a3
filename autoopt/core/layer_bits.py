"""Bits of single layers' weights as recipes hold them: one line of text, such as `conv2d_3=4, dense=8`.

Text, for a recipe's values are plain ones: they can be hashed, sampled and shown.
"""

from collections.abc import Mapping
from typing import Any

from autoopt.core.validation import fail
from autoopt.errors import ConfigError

WHERE = "quantize.bits_by_layer"
"""The setting that holds them."""
BITS = (4, 8)
"""Bits of weights that runtimes have kernels for, beside activations of 8 bits."""
EXPECTED = "layers and their bits, such as {conv2d_3: 4}"


def written(given: Any) -> Any:
    """Layers' bits in the one way in which recipes hold them, sorted by name; what is neither text nor a mapping stays.

    Args:
        given: a mapping of names and bits (`{"conv2d_3": 4}`), or the text that this function gave; `` for no layer.

    Raises:
        ConfigError: for what can't be read, and for bits that no kernel has.
    """
    if isinstance(given, str):
        given = _pairs(given)
    if not isinstance(given, Mapping):
        return given
    for name, bits in given.items():
        if not isinstance(name, str) or name != name.strip() or not name or set(name) & set("=,"):
            fail(WHERE, "names of layers, without = and commas", name)
        if isinstance(bits, bool) or bits not in BITS:
            raise ConfigError(f"{WHERE}: {name}: expected {' or '.join(map(str, BITS))} bits, got {bits!r}")
    return ", ".join(f"{name}={int(given[name])}" for name in sorted(given))


def parse(text: str) -> dict[str, int]:
    """Bits by layer, of what `written` gave."""
    return {name: int(bits) for name, bits in _pairs(text).items()}


def words(text: str) -> str:
    """Layers' bits for people, such as `conv2d_3 in 4 bits`."""
    return ", ".join(f"{name} in {bits} bits" for name, bits in parse(text).items()) or "none"


def _pairs(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, bits = (part.strip() for part in pair.rpartition("="))
        if not equals:
            fail(WHERE, EXPECTED, text)
        if name in found:
            raise ConfigError(f"{WHERE}: {name} is named twice")
        found[name] = int(bits) if bits.isdecimal() else bits
    return found
