"""Magnitude pruning of weights, by tensorflow-model-optimization."""

from typing import Any

from autoopt.recipe import parse_structure
from autoopt.stages.wrapped import Wrapped, clone, kernels


def wrap(model: Any, settings: dict[str, Any], steps_per_epoch: int) -> Wrapped:
    """Prune while training.

    Args:
        model: tf_keras model.
        settings: fields of `Prune`, and `finetune`.
        steps_per_epoch: batches in an epoch.
    """
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry
    from tensorflow_model_optimization.sparsity import keras as sparsity

    total = steps_per_epoch * settings["finetune"]["epochs"]
    begin, end, frequency = _steps(settings, total)
    if settings["schedule"] == "constant":
        schedule = sparsity.ConstantSparsity(settings["sparsity"], begin, frequency=frequency)
        end = begin
    else:
        schedule = sparsity.PolynomialDecay(0.0, settings["sparsity"], begin, end, frequency=frequency)
    kind, rows, columns = parse_structure(settings["structure"])
    pattern: dict[str, Any] = {}
    if kind == "m_by_n":
        pattern["sparsity_m_by_n"] = (columns - rows, columns)  # tfmot counts the zeros
    elif kind == "block":
        pattern["block_size"] = (rows, columns)

    def choose(layer: Any) -> tuple[Any, str]:
        if not kernels(layer):
            return layer, ""
        if not PruneRegistry.supports(layer):
            return layer, "tfmot can't prune this kind of layer"
        if not PruneRegistry.make_prunable(layer).get_prunable_weights():
            return layer, "tfmot never prunes this kind of layer"
        if kind == "block" and any(sum(d > 1 for d in w.shape) > 2 for w in kernels(layer)):
            return layer, "blocks need a kernel with two dimensions"
        if kind == "m_by_n" and all(int(w.shape[-2]) < columns for w in kernels(layer)):
            return layer, f"fewer than {columns} input channels to choose from"
        return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule, **pattern), ""

    wrapped, touched, skipped = clone(model, choose)
    return Wrapped(
        model=wrapped,
        unwrap=sparsity.strip_pruning,
        touched=touched,
        skipped=skipped,
        callbacks=[sparsity.UpdatePruningStep()] if touched else [],
        first_epoch=end // steps_per_epoch,
    )


def _steps(settings: dict[str, Any], total: int) -> tuple[int, int, int]:
    """First step, last step and frequency of mask updates.

    tfmot updates the mask at `begin + k * frequency` only, so the final sparsity is reached at `end`
    only if that is such a step, and one that training arrives at.
    """
    last = total - 1
    begin = min(round(settings["begin"] * total), last)
    end = min(max(round(settings["end"] * total), begin + 1), last)
    frequency = max(1, min(settings["frequency"], end - begin))
    return begin, begin + (end - begin) // frequency * frequency, frequency
