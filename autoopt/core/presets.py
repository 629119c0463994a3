"""Fine-tuning settings by name: how long stages train, by the number of training items.

What a length brings stands in `experiments/levels/README.md`: on ResNet-8 and 10,000 images, `quick` ends a point below what
`night` reaches with the same levels.
"""

from dataclasses import dataclass

from autoopt.core.fine_tuning import Finetune

LARGE = 5000
"""Training items from which on batches are larger."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How long the stages of a search train.

    Attributes:
        steps: of each stage, as near as whole epochs come to them.
        fewest: epochs.
        most: epochs.
        meant: what for, in words.
    """

    steps: int
    fewest: int
    most: int
    meant: str


PRESETS = {
    "quick": Preset(steps=500, fewest=2, most=5, meant="a first look, in minutes for small models"),
    "night": Preset(steps=2_500, fewest=4, most=15, meant="a search overnight"),
    "thorough": Preset(steps=10_000, fewest=10, most=60, meant="a weekend, or a GPU"),
}
"""By name, the shortest first."""
USUAL = "night"


def tuning(name: str, items: int) -> Finetune:
    """The fine-tuning settings of a preset.

    Args:
        name: a key of `PRESETS`.
        items: of the training data, 1 or more.

    """
    preset, size = PRESETS[name], 64 if items >= LARGE else 32
    epochs = round(preset.steps / -(-items // size))
    return Finetune(epochs=min(max(epochs, preset.fewest), preset.most), learning_rate=1e-3, batch_size=size)
