"""A bundle's `README.md` as a model card of the Hugging Face Hub: the same text, under a header that the Hub reads.

What the Hub asks for and nobody here knows (licence, language, the data's name there) is left for who uploads it.
"""

from collections.abc import Mapping
from typing import Any

import yaml

TASKS = {
    "classes": "classification",
    "binary": "classification",
    "labels": "multi-label-classification",
    "mask": "segmentation",
    "values": "regression",
}
"""The Hub's words for what outputs mean."""
TECHNIQUES = {
    "channels": "channel-pruning",
    "prune": "pruning",
    "cluster": "weight-clustering",
    "levels": "learned-levels",
}


def model_card(card: Mapping[str, Any], text: str) -> str:
    """A model card.

    Args:
        card: of the candidate, plain values.
        text: Markdown that stands under the header.
    """
    header = {
        "library_name": "tflite",
        "tags": _tags(card),
        "metrics": [card["quality"]],
        "model-index": [{"name": f"{card['study']}-{card['candidate']}", "results": _results(card)}],
    }
    told = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{told}---\n\n{text}"


def _tags(card: Mapping[str, Any]) -> list[str]:
    recipe = card["recipe"]
    used = [tag for part, tag in TECHNIQUES.items() if recipe.get(part)]
    scheme = recipe["scheme"]
    quantized = [] if scheme == "float32" else ["quantized", scheme.replace("_", "-")]
    return ["tflite", "autoopt", *used, *quantized]


def _results(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The quality on each split that it was measured on."""
    name, kinds = card["quality"], [one["kind"] for one in card.get("meaning", ())]
    found = {"validation": card["metrics"].get(name), "test": card["confirmed"]}
    return [
        {
            "task": {"type": TASKS.get(kinds[0], "other") if len(kinds) == 1 else "other"},
            "dataset": {"name": f"{card['study']}, {split} split", "type": "private", "split": split},
            "metrics": [{"type": name, "value": values["value"], "name": f"{name} ({split} split)"}],
        }
        for split, values in found.items()
        if values is not None
    ]
