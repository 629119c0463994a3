"""The optimizer that a stage trains with, as Keras has it, and when training has gone on for long enough."""

from collections.abc import Mapping, Sequence
from typing import Any

from autoopt.core import optimizers

NO_GPU = "mixed precision has no effect here: TensorFlow finds no GPU on this machine"


def optimizer(tuning: Mapping[str, Any], steps: int) -> Any:
    """Keras' optimizer; its learning rate rises during the warm-up and then follows a cosine down to zero.

    Args:
        tuning: fields of `Finetune`.
        steps: batches in an epoch.
    """
    import tf_keras

    name, arguments = optimizers.arguments(tuning.get("optimizer", "adam"))
    own: dict[str, Any] = dict(arguments)
    if averaging := tuning.get("averaging", 0.0):
        own |= {"use_ema": True, "ema_momentum": averaging, "ema_overwrite_frequency": None}
    if tuning.get("weight_decay"):
        own |= {"weight_decay": tuning["weight_decay"]}
    if tuning.get("clip_norm"):
        own |= {"global_clipnorm": tuning["clip_norm"]}
    kinds = {kind.lower(): getattr(tf_keras.optimizers, kind) for kind in ("Adam", "SGD", "AdamW", "RMSprop")}
    made = kinds[name](_rate(tuning, steps), **own)
    return tf_keras.mixed_precision.LossScaleOptimizer(made) if _mixes(tuning) else made


def _rate(tuning: Mapping[str, Any], steps: int) -> Any:
    import tf_keras

    total, peak = steps * tuning["epochs"], tuning["learning_rate"]
    rising = min(round(tuning.get("warmup", 0.0) * total), total - 1)
    if not rising:
        return tf_keras.optimizers.schedules.CosineDecay(peak, decay_steps=total)
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=total - rising, warmup_target=peak, warmup_steps=rising
    )


def prepare_precision(tuning: Mapping[str, Any]) -> list[str]:
    """Have TensorFlow mix precisions in the graphs that this process builds from now on, where that is asked for.

    It is TensorFlow's own rewriting of graphs: the model and its weights keep their types, so what is made of it later does.

    Args:
        tuning: fields of `Finetune`.

    Returns:
        what people should know: that it has no effect here.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": _mixes(tuning)})
    return [NO_GPU] if tuning.get("mixed_precision") and not _mixes(tuning) else []


def _mixes(tuning: Mapping[str, Any]) -> bool:
    """Whether precisions are mixed: asked for, and on a GPU."""
    import tensorflow as tf

    return bool(tuning.get("mixed_precision")) and bool(tf.config.list_physical_devices("GPU"))


def impatient(qualities: Sequence[float], sign: int, patience: int) -> bool:
    """Whether the best of these came so many epochs ago; 0 epochs are never over.

    Args:
        qualities: of each epoch since the technique is in force.
        sign: 1 where less is better, -1 where more is.
        patience: see `Finetune`.
    """
    if not patience or not qualities:
        return False
    signed = [sign * value for value in qualities]
    return len(signed) - 1 - signed.index(min(signed)) >= patience
