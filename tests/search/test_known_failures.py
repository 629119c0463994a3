"""Failures that are known beforehand."""

import pytest

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Prune, Quantize
from autoopt.search.known_failures import failure

REASON = "TensorFlow can't convert to int16x8: no kernel for it"
"""Of a model's graph."""


def failed(reason: str = REASON, stage: str = "convert", **recipe: object):
    return Candidate(number=3, recipe=Recipe(**({"scheme": "int16x8"} | recipe)), failed_stage=stage, reason=reason)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(scheme="int16x8", prune=Prune(sparsity=0.5)),
        Recipe(scheme="int16x8", cluster=Cluster(number=8), finetune=Finetune(epochs=9)),
    ],
)
def test_a_scheme_that_failed_alone_fails_of_the_same_compressed(recipe: Recipe) -> None:
    assert failure(recipe, [failed()]) == ("convert", f"{REASON} (so did #3, the same scheme alone)")


@pytest.mark.parametrize(
    "known",
    [
        failed(scheme="float16"),
        failed(prune=Prune(sparsity=0.3)),
        failed("memory limit: it used 9,000 MB of 8000 (limits.job_memory)"),
        failed("time limit: not done after 3,600 s (limits.job_time)", "quantize"),
        failed("its process was killed by signal 9 (SIGKILL)"),
        failed("its machine was lost 3 times (last: gone)"),
        failed("the model holds NaN or infinite weights"),
        failed("TFLM can't run the file: Failed to allocate tensors", "micro"),
        failed("TFLM's outputs differ from LiteRT's by 2", "micro"),
        failed("accuracy is nan", "accuracy"),
        Candidate(number=3, recipe=Recipe(scheme="int16x8")),
    ],
)
def test_other_failures_say_nothing_of_it(known) -> None:
    assert failure(Recipe(scheme="int16x8", prune=Prune(sparsity=0.5)), [known]) is None


def test_channels_that_rounding_takes_back_are_known_beforehand() -> None:
    vain = Recipe(channels=Channels(ratio=0.1, multiple=16))
    assert failure(vain, [], [64]) == (
        "channels",
        "no layer of this model can take it: 10 % fewer channels, rounded to multiples of 16",
    )
    assert failure(Recipe(channels=Channels(ratio=0.1)), [], [64]) is None
    assert failure(vain, []) is None


def test_another_way_to_make_the_scheme_is_tried() -> None:
    known = failed("litert-quantizer can't make int8: no", "quantize", scheme="int8")
    assert failure(Recipe(scheme="int8", prune=Prune(sparsity=0.5)), [known])
    assert failure(Recipe(scheme="int8", quantize=Quantize(keep=1), prune=Prune(sparsity=0.5)), [known]) is None


def test_what_cannot_be_trained_with_quantization_is_known_after_once() -> None:
    known = failed("tensorflow-model-optimization can't take the model: strange", "qat", scheme="qat_int8")
    assert failure(Recipe(scheme="qat_int8", prune=Prune(sparsity=0.5)), [known])
    diverged = failed("diverged: loss 1 at most before, 99 after epoch 2", "qat", scheme="qat_int8")
    assert failure(Recipe(scheme="qat_int8", prune=Prune(sparsity=0.5)), [diverged]) is None
