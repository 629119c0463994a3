"""Jobs that make a `.tflite` of a packed model, weigh it, and prove that it holds its recipe."""

import dataclasses
import hashlib

from autoopt.core import deflate
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Quantize
from autoopt.execution.jobs.context import Context, to_json
from autoopt.models import loading
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, interpreter, parts, proof


def to_float32(context: Context) -> bytes:
    """Packed model -> float32 `.tflite`, for as many items at once as the setting `batch` says, or any number."""
    return conversion.float32(loading.unpack(context.parents[0])[0], context.settings.get("batch"))


def to_scheme(context: Context) -> bytes:
    """Packed model -> `.tflite` in the setting `scheme`, by TensorFlow's converter; `batch` as for `to_float32`."""
    model, _ = loading.unpack(context.parents[0])
    scheme, batch = context.settings["scheme"], context.settings.get("batch")
    if scheme == "int16x8":
        return conversion.int16x8(model, context.split("calibration").inputs, batch)
    return conversion.trained(model, scheme, batch)


def quantize(context: Context) -> bytes:
    """float32 `.tflite` -> `.tflite` in the setting `scheme`, by litert-quantizer; other settings are of `Quantize`."""
    calibration = context.split("calibration").inputs
    told = {name: value for name, value in context.settings.items() if name not in ("scheme", "task")}
    scheme, how = context.settings["scheme"], Quantize(**told)
    return conversion.quantize(context.parents[0], scheme, calibration, context.threads, how)


def weigh(context: Context) -> bytes:
    """Bytes of a `.tflite`, unproven.

    Returns:
        JSON: `size_bytes`, `compressed_bytes`, `download_bytes`.
    """
    [file] = context.parents
    return to_json(_sizes(file))


def prove(context: Context) -> bytes:
    """Open the file, prove the recipe, weigh it. Parents: the `.tflite` and the packed model behind it.

    Returns:
        JSON: `contents` with where the bytes go, `reports`, `size_bytes`, `compressed_bytes`, `download_bytes`, `sha256`.
    """
    file, model = context.parents
    reports = loading.reports_of(model)
    contents, recipe = inspect.read(file), Recipe.from_dict(context.settings["recipe"])
    by_values = recipe.cluster is not None or recipe.levels is not None
    proof.prove(contents, recipe, reports, loading.normalized(model) if by_values else ())
    return to_json(
        {
            "contents": contents.to_dict() | {"parts": [dataclasses.asdict(part) for part in parts.parts(file)]},
            "reports": reports,
            **_sizes(file),
            "sha256": hashlib.sha256(file).hexdigest(),
        }
    )


def _sizes(file: bytes) -> dict[str, int]:
    return {
        "size_bytes": len(file),
        "compressed_bytes": interpreter.compressed_bytes(file),
        "download_bytes": len(deflate.smallest_gzip(file)),
    }
