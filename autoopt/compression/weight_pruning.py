"""Magnitude pruning of weights, by tensorflow-model-optimization."""

from typing import Any

from autoopt.compression import tfmot_internals
from autoopt.compression.sparsity_allocation import shares
from autoopt.compression.training import Training
from autoopt.compression.wrapping import KEPT, Wrapped, clone, kept, kernels
from autoopt.core.stage_settings import parse_structure

AT_ONCE = {"schedule": "constant", "begin": 0.0, "end": 1.0, "frequency": 1}
"""Settings that make the whole mask at the first step."""
M_BY_N = ("Conv2D", "Dense", "SeparableConv2D")
"""Layers of which tfmot's M:N groups run along the input channels, as TFLite stores them."""


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Prune while training.

    Args:
        model: tf_keras model.
        settings: fields of `Prune`, and `finetune`.
        training: what it is to be trained with; None if not at all.
    """
    from tensorflow_model_optimization.sparsity import keras as sparsity

    steps_per_epoch = 1 if training is None else training.steps(settings["finetune"])
    begin, end, frequency = _steps(settings, steps_per_epoch * settings["finetune"]["epochs"])
    constant = settings["schedule"] == "constant" or begin == end
    if constant:
        end = begin

    def schedule(share: float) -> Any:
        if constant:
            return sparsity.ConstantSparsity(share, begin, frequency=frequency)
        return sparsity.PolynomialDecay(0.0, share, begin, end, frequency=frequency)

    kind, rows, columns = parse_structure(settings["structure"])
    pattern: dict[str, Any] = {}
    if kind == "m_by_n":
        pattern["sparsity_m_by_n"] = (columns - rows, columns)  # tfmot counts the zeros
        end = 1  # whatever the schedule, tfmot makes this mask at the first step
    elif kind == "block":
        pattern["block_size"] = (rows, columns)

    alone = kept(model, settings)

    def refuses(layer: Any) -> str:
        if layer.name in alone:
            return KEPT
        if not tfmot_internals.prunes(layer):
            return "tfmot can't prune this kind of layer"
        prunable = tfmot_internals.prunable(layer)
        if not prunable:
            return "tfmot never prunes this kind of layer"
        if kind == "block" and any(len(w.shape) != 2 for w in prunable):
            return "blocks need a kernel with two dimensions"
        if kind == "block" and any(w.shape[0] <= rows or w.shape[1] <= columns for w in prunable):
            return f"holds too few blocks of {rows}x{columns} to choose from"
        if kind == "m_by_n" and type(layer).__name__ not in M_BY_N:
            return f"tfmot has no {settings['structure']} pattern for this kind of layer"
        if kind == "m_by_n" and any(w.shape[-2] < columns for w in prunable):
            return f"fewer than {columns} input channels to choose from"
        return ""

    why = {layer.name: refuses(layer) for layer in model.layers if kernels(layer)}
    prunable = {layer.name: tfmot_internals.prunable(layer) for layer in model.layers if why.get(layer.name) == ""}
    share = shares(settings.get("allocation", "uniform"), settings["sparsity"], prunable, model, training)

    def choose(layer: Any) -> tuple[Any, str]:
        if layer.name not in share:
            return layer, why.get(layer.name, "")
        return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule(share[layer.name]), **pattern), ""

    wrapped, touched, skipped = clone(model, choose)
    return Wrapped(
        model=wrapped,
        unwrap=sparsity.strip_pruning,
        touched=touched,
        skipped=skipped,
        callbacks=[sparsity.UpdatePruningStep()] if touched else [],
        first_epoch=(end - 1) // steps_per_epoch,
        changes=tfmot_internals.prunable,
        settle=_mask,
    )


def _mask(model: Any) -> None:
    """Set a wrapped model's weights by its masks as they are."""
    for layer in model.layers:
        if hasattr(layer, "pruning_obj"):
            layer.pruning_obj.weight_mask_op()


def apply(model: Any) -> None:
    """Set the masks of a wrapped model, and its weights by them, without a step of training."""
    for layer in model.layers:
        if hasattr(layer, "pruning_obj"):
            layer.pruning_step.assign(layer.pruning_schedule.begin_step)
            layer.pruning_obj.conditional_mask_update()
    _mask(model)


def _steps(settings: dict[str, Any], total: int) -> tuple[int, int, int]:
    """First step, last step and frequency of mask updates.

    tfmot counts steps from 1 and updates the mask at `begin + k * frequency` only, so the final sparsity
    is reached at `end` only if that is such a step, and one that training arrives at.
    """
    begin = min(1 + round(settings["begin"] * total), total)
    end = min(max(round(settings["end"] * total), begin + 1), total)
    frequency = max(1, min(settings["frequency"], end - begin))
    return begin, begin + (end - begin) // frequency * frequency, frequency
