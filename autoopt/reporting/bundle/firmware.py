"""The model as a C array, for microcontrollers and Arm's NPUs, where there are no files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoopt import targets
from autoopt.errors import ConfigError
from autoopt.reporting.bundle.escaping import comment, identifier
from autoopt.tflite import contents

SOURCE, HEADER = "model_data.cc", "model_data.h"
A_LINE = 12
_BYTES = [f"0x{byte:02x}," for byte in range(256)]
_METHODS = {"CUMSUM": "CumSum", "PADV2": "PadV2", "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM"}
"""Operators whose method of `MicroMutableOpResolver` is not named by the rule."""
_CUSTOM = {f"{contents.CUSTOM} ethos-u": "AddEthosU()", f"{contents.CUSTOM} TFLM_DECODE": "AddDecode()"}


@dataclass(frozen=True, kw_only=True)
class Flashed:
    """What is built into the firmware.

    Attributes:
        file: the `.tflite`.
        ops: its operators.
        notes: what must be known of it, a line each.
    """

    file: bytes
    ops: tuple[str, ...]
    notes: tuple[str, ...]


def firmware(file: bytes, card: Mapping[str, Any]) -> dict[str, bytes]:
    """The array's source and header, and a file of what is in it if that is no plain `.tflite`; nothing where files run.

    Args:
        file: the candidate's `.tflite`.
        card: of the candidate.
    """
    try:
        target = targets.find(str(card["provenance"].get("target", "")))
    except ConfigError:  # a card without a target, or with one that only another version knows
        return {}
    given = target.deployable(file)
    if given is None:
        return {}
    ops = card["proof"]["operators"] if given.file == file else contents.read(given.file).ops
    flashed = Flashed(file=given.file, ops=tuple(ops), notes=(*given.notes, *_arena(card, target, given)))
    symbol = f"{identifier(card['study'])}_model_data"
    files = {SOURCE: _source(symbol, flashed.file), HEADER: _header(symbol, flashed, card)}
    return files | ({given.name: given.file} if given.name else {})


def _arena(card: Mapping[str, Any], target: targets.Target, given: targets.Deployable) -> tuple[str, ...]:
    """A note on the memory that it takes; none where an estimate is not of this array."""
    if target.estimated and not given.name:
        return ()
    if "memory_bytes" not in card["metrics"]:
        return ("Arena: not measured.",)
    size, device = card["metrics"]["memory_bytes"]["value"], card["provenance"].get("device", {})
    by = device.get("runtime", "the target's runtime")
    if target.estimated:
        return (f"Arena: {by} estimates {size:.0f} bytes of SRAM for tensors; the runtime itself takes some more.",)
    system = device.get("system", "on a 64-bit machine")
    return (f"Arena: {size:.0f} bytes, the least that it ran in with {by} ({system}).",)


def method(operator: str) -> str:
    """The call that registers an operator, as `MicroMutableOpResolver` names it."""
    if operator in _CUSTOM:
        return _CUSTOM[operator]
    if operator.startswith(contents.CUSTOM):
        return f'AddCustom("{comment(operator.partition(" ")[2])}", ...)'
    return f"Add{_METHODS.get(operator) or ''.join(word.title() for word in operator.split('_'))}()"


def _source(symbol: str, file: bytes) -> bytes:
    lines = ("  " + " ".join(_BYTES[byte] for byte in file[i : i + A_LINE]) for i in range(0, len(file), A_LINE))
    text = (
        f'#include "{HEADER}"\n\n'
        "// The runtime reads the model in place, which takes this alignment.\n"
        f"alignas(16) const unsigned char {symbol}[] = {{\n"
    )
    return (text + "\n".join(lines) + f"\n}};\nconst unsigned int {symbol}_len = {len(file)};\n").encode()


def _header(symbol: str, flashed: Flashed, card: Mapping[str, Any]) -> bytes:
    guard = f"{symbol.upper()}_H_"
    about = [
        f"Candidate #{card['candidate']} of the study {card['study']}: {card['recipe_in_words']}.",
        *flashed.notes,
        f"Operators, for tflite::MicroMutableOpResolver<{len(flashed.ops)}> resolver:",
    ]
    lines = [f"// {comment(text)}" for text in about] + [f"//   resolver.{method(name)};" for name in flashed.ops]
    lines += [
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        f"extern const unsigned char {symbol}[];",
        f"extern const unsigned int {symbol}_len;",
        "",
        f"#endif  // {guard}",
    ]
    return ("\n".join(lines) + "\n").encode()
