"""`README.md` and `REPRODUCE.md`: what the bundle's files are, and how the model is made again."""

from collections.abc import Iterable, Mapping
from typing import Any

from autoopt.bundle.escaping import code_span, markdown

FILES = {
    "model.tflite": "the model",
    "card.md": "what was measured, and what goes in and out",
    "card.json": "the same for programs, with the files' sha256",
    "samples.npz": "real items of the validation data as the model takes them, the outputs recorded on them, the true classes",
    "labels.txt": "the classes' names, one a line, in the order of the outputs",
    "predict.py": "runs the model in Python",
    "Classifier.kt": "runs the model on Android",
    "Predictor.kt": "runs the model on Android",
    "model_data.h": "for firmware: the array's name, the operators it needs, the arena",
    "model_data.cc": "for firmware: the model as a C array",
    "model_vela.tflite": "what Vela compiled the model to; the array holds this",
    "recipe.json": "how the candidate was made",
    "REPRODUCE.md": "how to make it again",
    "study.yaml": "the study's",
    "task.py": "the study's",
}


def readme(card: Mapping[str, Any], names: Iterable[str]) -> str:
    """What each file is, how to check the bundle, how to run it."""
    present = set(names)
    lines = [
        f"# {markdown(card['study'])}: candidate #{card['candidate']}",
        "",
        f"{markdown(card['recipe_in_words'])}, written by autoopt.",
        "",
        "| file | what it is |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, what in FILES.items() if name in present),
        "",
    ]
    items = card["samples"]["items"]
    if items:
        lines += [
            "Check that nothing was lost on the way, and that the model computes here what it computed there:",
            "",
            "    autoopt verify .",
            "",
            f"`samples.npz` holds {items} real item{'s' * (items > 1)} of the validation data: mind who may see them.",
        ]
    else:
        lines += [
            f"There are no stored samples ({markdown(card['samples']['why'])}). `autoopt verify .` checks the file alone.",
        ]
    if "predict.py" in present:
        lines += ["", "Run it (`pip install ai-edge-litert numpy`):", "", "    python predict.py"]
    return "\n".join(lines) + "\n"


def reproduce(card: Mapping[str, Any]) -> str:
    """How to make the same file again."""
    given = card["provenance"].get("libraries", {})
    libraries = "".join(f"- {markdown(name)} {markdown(number)}\n" for name, number in given.items())
    return (
        "# Making this model again\n\n"
        f"Candidate #{card['candidate']} of the study `{code_span(card['study'])}`, recipe {card['recipe_digest']}.\n\n"
        "1. Install autoopt and these versions, which results follow from:\n\n"
        f"{libraries}\n"
        "2. In the study's folder (its `study.yaml` and `task.py` are copied here; your model and data must lie where "
        "the task expects them):\n\n"
        f"       autoopt run STUDY --recipe recipe.json\n\n"
        f"3. Compare: the task's fingerprint was `{code_span(card['provenance'].get('task', ''))}`, the file's sha256 "
        f"`{card['sha256']}`. Training on several threads may differ in the last digits between machines; "
        "post-training schemes give the same bytes.\n"
    )
