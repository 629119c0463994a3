"""The model as a C array, for microcontrollers and Arm's NPUs, where there are no files."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoopt import targets
from autoopt.errors import AutooptError
from autoopt.reporting.bundle.escaping import comment, identifier
from autoopt.targets.micro import Micro
from autoopt.targets.vela import Vela
from autoopt.tflite import contents

COMPILED = "model_vela.tflite"
SOURCE, HEADER = "model_data.cc", "model_data.h"
KINDS = ("micro", "vela")
"""Kinds of target that run no files."""
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
        compiled: whether it is Vela's.
    """

    file: bytes
    ops: tuple[str, ...]
    notes: tuple[str, ...]
    compiled: bool = False


def firmware(file: bytes, card: Mapping[str, Any]) -> dict[str, bytes]:
    """The array's source and header, and what Vela compiled, by name; nothing for other targets.

    Args:
        file: the candidate's `.tflite`.
        card: of the candidate.
    """
    target = str(card["provenance"].get("target", ""))
    kind = target.partition(":")[0]
    if kind not in KINDS:
        return {}
    flashed = _compiled(file, card, target) if kind == "vela" else _for_micro(file, card, target)
    symbol = f"{identifier(card['study'])}_model_data"
    files = {SOURCE: _source(symbol, flashed.file), HEADER: _header(symbol, flashed, card)}
    return files | ({COMPILED: flashed.file} if flashed.compiled else {})


def _plain(file: bytes, card: Mapping[str, Any], *notes: str) -> Flashed:
    return Flashed(file=file, ops=tuple(card["proof"]["operators"]), notes=notes)


def _for_micro(file: bytes, card: Mapping[str, Any], target: str) -> Flashed:
    """The file, or that with look-up tables if the target has them."""
    plain = _plain(file, card, _arena(card))
    if "weights=tables" not in target:
        return plain
    try:
        found = targets.find(target)
        assert isinstance(found, Micro)
        flashed = found.flashed(file)
    except AutooptError as error:
        return dataclasses.replace(plain, notes=(*plain.notes, f"No look-up tables: {error}."))
    if flashed == file:
        return plain
    note = f"Weights are indices into tables ({len(flashed)} bytes in place of {len(file)}), which only TFLM decodes."
    return dataclasses.replace(plain, file=flashed, ops=tuple(contents.read(flashed).ops), notes=(*plain.notes, note))


def _compiled(file: bytes, card: Mapping[str, Any], target: str) -> Flashed:
    """What Vela makes of the file; the file itself where that can't be had here."""
    try:
        found = targets.find(target)
        assert isinstance(found, Vela)
        compiled, facts = found.compiled(file), found.describe()
        ops = tuple(contents.read(compiled).ops)
    except AutooptError as error:
        note = f"Not compiled for {target}: {error}. The array is model.tflite, which runs on the CPU alone."
        return _plain(file, card, note)
    notes = [f"{COMPILED}, compiled by {facts['runtime']} for {facts['processor']}, {facts['system']}."]
    if "memory_bytes" in card["metrics"]:
        size = card["metrics"]["memory_bytes"]["value"]
        notes.append(f"Arena: Vela estimates {size:.0f} bytes of SRAM for tensors; the runtime itself takes some more.")
    return Flashed(file=compiled, ops=ops, notes=tuple(notes), compiled=True)


def _arena(card: Mapping[str, Any]) -> str:
    if "memory_bytes" not in card["metrics"]:
        return "Arena: not measured."
    size, device = card["metrics"]["memory_bytes"]["value"], card["provenance"].get("device", {})
    by = device.get("runtime", "tflite-micro")
    return (
        f"Arena: {size:.0f} bytes, the least that it ran in with {by} ({device.get('system', 'on a 64-bit machine')})."
    )


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
