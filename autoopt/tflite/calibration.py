"""The extremes of what flows through a float file, that ranges of integers are made of."""

from typing import Any

from autoopt.models import file_ends
from autoopt.models.task import Inputs
from autoopt.tflite.interpreter import items_at_once


def extremes(q: Any, file: bytes, calibration: Inputs, threads: int) -> dict[str, Any]:
    """The extremes of every tensor.

    litert-quantizer's own way averages them over batches, and many small ones would drown the tails (14 instead of 34 dB).
    """
    from litert_quantizer import calibrator, recipe_manager
    from litert_quantizer.utils import qsv_utils

    manager, calls = recipe_manager.RecipeManager(), _calls(file, calibration)
    manager.load_quantization_recipe(q.get_quantization_recipe())

    def seen(mode: Any) -> dict[str, Any]:
        looking = calibrator.Calibrator(file, num_threads=threads, mode=mode, qsv_update_func=qsv_utils.min_max_update)
        looking.calibrate(calls, manager)
        found: dict[str, Any] = looking.get_model_qsvs()
        return found

    # The runtime's own way to note extremes is faster for many calls, and all there is where an operator has an output
    # that nobody reads, which is nowhere in memory then.
    inside = calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED
    if any(len(items) > 1 for items in calls.values()):
        return seen(inside)
    try:
        return seen(calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS)
    except ValueError:
        return seen(inside)


def _calls(file: bytes, calibration: Inputs) -> dict[str, list[Inputs]]:
    """The calibration set by signature: as one batch, or item by item where the file takes no more."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file)
    signature = next(iter(file_ends.signatures(interpreter)), None)
    if signature is None:
        raise ValueError(
            "the float32 file has no signature; convert it anew, with inputs whose names are of letters and digits"
        )
    details = file_ends.of_signature(interpreter, signature).inputs
    if set(details) != set(calibration):
        names = zip(details, calibration.values(), strict=True)
    else:
        names = ((name, calibration[name]) for name in details)  # type: ignore[assignment]
    given = {name: array.astype(details[name]["dtype"]) for name, array in names}
    items = len(next(iter(given.values())))
    size = items_at_once(details.values(), items) or 1
    starts = range(0, max(items, 1), size)
    return {signature: [{name: array[i : i + size] for name, array in given.items()} for i in starts]}
