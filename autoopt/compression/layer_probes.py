"""What each technique does to one layer alone: measured on a few hundred training items, without training anything.

So it can be told before a night is spent which layers bear what (as in HAWQ, Dong et al. 2019, there by curvature, and in
Nagel et al. 2021, "A White Paper on Neural Network Quantization", by the same experiment).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autoopt.compression import batchnorm_folding, channel_cuts, layer_costs, weight_grids
from autoopt.compression.layer_costs import Cost
from autoopt.compression.weight_grids import Grid
from autoopt.compression.wrapping import kernels
from autoopt.core.probes import (
    EIGHT_BITS,
    FOUR_BITS,
    HALF_ZEROS,
    LEVELS,
    Effect,
    Form,
    ProbedLayer,
    Probes,
    of_levels,
)
from autoopt.core.validation import nearest
from autoopt.errors import CandidateFailed, one_line, retold
from autoopt.models import quality
from autoopt.models.task import Manifest, Split, side_by_side

ITEMS, FEWEST_ITEMS = 500, 32
"""On which a layer is probed; fewer where many items would take long, down to the second."""
WORK = 6e11
"""Multiply-adds that all probes may take together: about a minute on one core."""
RUNS = 9
"""Times that the whole model is run for a layer, those for its channels among them."""
BATCH = 100

Run = Callable[[Any], Any]
"""Outputs of a model for inputs."""
ToGrid = Callable[[np.ndarray, tuple[int, ...]], Grid]


def _zeros(kernel: np.ndarray, axes: tuple[int, ...]) -> Grid:
    return weight_grids.by_channel(weight_grids.with_zeros(kernel, 0.5), axes, 8)


def _levels(number: int) -> ToGrid:
    return lambda kernel, axes: weight_grids.by_tensor(kernel, axes, number)


GRIDS: dict[str, ToGrid] = {
    EIGHT_BITS: lambda kernel, axes: weight_grids.by_channel(kernel, axes, 8),
    FOUR_BITS: lambda kernel, axes: weight_grids.by_channel(kernel, axes, 4),
    **{of_levels(number): _levels(number) for number in LEVELS},
    HALF_ZEROS: _zeros,
}
"""How a kernel gets into each form."""


def probe(
    model: Any,
    manifest: Manifest,
    train: Split,
    layers: Collection[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Probes:
    """Probe the layers of a model, one at a time.

    Args:
        model: a flat tf_keras model; it is left as it was.
        manifest: names the metric.
        train: data, of which the same items are taken each time.
        layers: names of those to probe; by default all, as far as `WORK` reaches, the heaviest first.
        progress: is told which layer is at hand.

    Raises:
        CandidateFailed: if a layer is named that the model has not, or its outputs are no finite numbers.
    """
    found = [cost for cost in layer_costs.costs(model) if _probed(model.get_layer(cost.layer))]
    for name in layers:
        if name not in {cost.layer for cost in found}:
            known = nearest(name, [cost.layer for cost in found]) if found else "it has none"
            raise CandidateFailed("probes", f"the model has no layer {name!r} with a kernel; {known}")
    if not found:
        return Probes(reason="the model has no layers with kernels")
    wanted = [cost for cost in found if not layers or cost.layer in layers]
    chosen, items, notes = affordable(wanted, sum(cost.multiply_adds for cost in found), len(train))
    probing = _Probing(manifest, train.some(items))
    plain = probing.outputs(_evaluated(model))
    if not np.isfinite(plain).all():
        raise CandidateFailed("probes", "the untouched model's outputs are no finite numbers")
    value, why = probing.value(plain)
    notes += [f"what becomes of the {manifest.quality.name} can't be told on {items} items: {why}"] if why else []
    rows = tuple(probing.layers(batchnorm_folding.fold(model), found, set(chosen), progress))
    tied = channel_cuts.cuts(
        model, probing.data, chosen, lambda made: probing.effect(_evaluated(made), plain), progress
    )
    return Probes(
        items=items,
        quality=value,
        layers=rows,
        cuts=tied.cuts,
        whole=tied.whole,
        notes=(*notes, *tied.notes),
    )


def affordable(found: Sequence[Cost], multiply_adds: int, there: int) -> tuple[list[str], int, list[str]]:
    """How much of a model can be probed within `WORK`.

    Args:
        found: its layers that are to be probed.
        multiply_adds: of the whole model, for one item.
        there: items that there are.

    Returns:
        names of the layers, the number of items, and notes for people.
    """
    each = max(1, multiply_adds * RUNS)
    items = max(1, min(there, ITEMS, max(FEWEST_ITEMS, int(WORK / (each * len(found))))))
    most = max(1, int(WORK / (each * items)))
    chosen = sorted(found, key=lambda cost: -cost.weights)[:most]
    notes = []
    if len(chosen) < len(found):
        notes.append(f"it is a large model: only the {len(chosen)} heaviest of {len(found)} layers were probed")
    return [cost.layer for cost in found if cost in chosen], items, notes


class _Probing:
    """Runs changed models on the same items."""

    def __init__(self, manifest: Manifest, data: Split) -> None:
        self.manifest, self.data = manifest, data

    def outputs(self, model: Run) -> np.ndarray:
        """A model's outputs, several side by side."""
        import tensorflow as tf

        arrays, chunks = list(self.data.inputs.values()), []
        for start in range(0, len(self.data), BATCH):
            given = [array[start : start + BATCH] for array in arrays]
            made = tf.nest.flatten(model(given[0] if len(given) == 1 else given))
            chunks.append(side_by_side([tensor.numpy() for tensor in made]))
        joined: np.ndarray = np.concatenate(chunks)
        return joined

    def value(self, outputs: np.ndarray) -> tuple[float | None, str]:
        """The task's metric, or None and why it can't be had of these items: they may lack a class that it needs."""
        try:
            with retold(lambda error: CandidateFailed("probes", one_line(error, 200)), passing=(MemoryError,)):
                found = quality.value(self.manifest, self.data, outputs)
        except CandidateFailed as error:
            return None, error.reason
        return (found, "") if np.isfinite(found) else (None, f"it is {found}")

    def effect(self, model: Run, plain: np.ndarray) -> Effect:
        """What has become of a model's outputs."""
        outputs = self.outputs(model)
        before, after = self.value(plain)[0], self.value(outputs)[0]
        change = None if before is None or after is None else after - before
        return Effect(error=self._error(plain, outputs), change=change)

    def _error(self, plain: np.ndarray, outputs: np.ndarray) -> float:
        """The power of the output's error as a share of the output's power, as `Effect.error` has it."""
        ends = np.cumsum([int(np.prod(output.shape)) for output in self.manifest.outputs])[:-1]
        pairs = [(plain, outputs)] if not len(ends) else zip(*(np.split(a, ends, axis=1) for a in (plain, outputs)), strict=True)  # fmt: skip
        shares = []
        for whole, changed in pairs:
            signal = float(np.square(whole.astype(np.float64)).mean())
            noise = float(np.square(changed.astype(np.float64) - whole).mean())
            shares.append(noise / (signal or 1.0))
        error = float(np.mean(shares))
        if not np.isfinite(error):
            raise CandidateFailed("probes", "the outputs of the model with one layer changed are no finite numbers")
        return error

    def layers(
        self, folded: Any, found: Sequence[Cost], chosen: Collection[str], progress: Callable[[str], None]
    ) -> Iterator[ProbedLayer]:
        """Each layer in all forms, with batch normalization where the file will have it."""
        import tensorflow as tf

        # Run so often that a graph, with its operations fused, pays; a model that runs once is not worth one.
        run = tf.function(_evaluated(folded), reduce_retracing=True)
        plain = self.outputs(run)
        for cost in found:
            forms = {}
            if cost.layer in chosen:
                progress(f"probing {cost.layer}")
                forms = {form.name: form for form in self._forms(run, folded.get_layer(cost.layer), plain)}
            yield ProbedLayer(layer=cost.layer, kind=cost.kind, weights=cost.weights, forms=forms)

    def _forms(self, model: Run, layer: Any, plain: np.ndarray) -> Iterator[Form]:
        own = [weight.numpy() for weight in kernels(layer)]
        axes = [weight_grids.channel_axes(layer, weight) for weight in kernels(layer)]
        for name, form in GRIDS.items():
            grids = [form(*pair) for pair in zip(own, axes, strict=True)]
            with _changed(layer, [grid.values for grid in grids]):
                effect = self.effect(model, plain)
            size, compressed = (sum(getattr(grid, kind) for grid in grids) for kind in ("size", "compressed"))
            yield Form(name=name, size=size, compressed=compressed, effect=effect)


def _evaluated(model: Any) -> Run:
    return lambda inputs: model(inputs, training=False)


def _probed(layer: Any) -> bool:
    """Whether a layer's kernels can be put on a grid: those of lookups of words, for instance, are whole numbers."""
    return all(weight.dtype.is_floating for weight in kernels(layer))


@contextmanager
def _changed(layer: Any, values: Sequence[np.ndarray]) -> Iterator[None]:
    """Have a layer other kernels for a while."""
    own = [weight.numpy() for weight in kernels(layer)]
    try:
        for weight, array in zip(kernels(layer), values, strict=True):
            weight.assign(array.astype(weight.dtype.as_numpy_dtype))
        yield
    finally:
        for weight, array in zip(kernels(layer), own, strict=True):
            weight.assign(array)
