"""`README.md` and `REPRODUCE.md`: what the bundle's files are, and how the model is made again."""

from collections.abc import Iterable, Mapping
from typing import Any

from autoopt.reporting.bundle.escaping import code_span, markdown
from autoopt.reporting.bundle.own_files import brightness, colours

FILES = {
    "model.tflite": "the model",
    "model.tflite.gz": "the same, packed for a download as small as gzip can be; unpack it with any gzip",
    "card.md": "what was measured, and what goes in and out",
    "card.json": "the same for programs, with the files' sha256",
    "samples.npz": "real items of the validation data as the model takes them, the outputs recorded on them, the true classes",
    "labels.txt": "the classes' names, one a line, in the order of the outputs",
    "predict.py": "runs the model in Python on your own files, and says what comes out",
    "Classifier.kt": "runs the model on Android",
    "Predictor.kt": "runs the model on Android",
    "model_data.h": "for firmware: the array's name, the operators it needs, the arena",
    "model_data.cc": "for firmware: the model as a C array",
    "model_vela.tflite": "what Vela compiled the model to; the array holds this",
    "model_edgetpu.tflite": "what Coral's compiler made of the model; the array holds this",
    "preparation.json": "what was done to raw pictures or to a table's columns before the model saw them",
    "recipe.json": "how the candidate was made",
    "REPRODUCE.md": "how to make it again",
    "study.yaml": "the study's settings, to read: its task, model and data stayed with the study",
}

PREPARED = (
    "",
    "The model was given raw data as `preparation.json` says. `predict.py` does so with the rows of a `.csv` that has the table's "
    "columns, by their names and in any order; whoever runs the model otherwise has to do the same:",
    "",
    "- a picture is turned upright, stretched to `height` x `width`, made `colours` of, and its values of 0 to 255 become `scaling`, "
    "for which `in_python` is an expression;",
    "- of a table, each of `columns` gives the inputs from the first to before the second of `values`;",
    "- a number becomes `(number - subtract) / divide`, and one that is not given counts as `missing` first; `true` is 1, `false` 0;",
    "- a category that is `one-hot` gives 1 at its place in `categories` and 0 elsewhere, and one that is `ordinal` gives that place "
    "itself; for one that is not given the place is `missing`, or none if that is null.",
)
"""How `preparation.json` is read, for people."""


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
        lines += _running(card)
    if "preparation.json" in present:
        lines += PREPARED
    return "\n".join(lines) + "\n"


def _running(card: Mapping[str, Any]) -> list[str]:
    """How to run the model on one's own files, and what it takes."""
    facts = card.get("data") or ()
    pictures = any(
        colours(end["shape"][1:]) and brightness(fact) for end, fact in zip(card["inputs"], facts, strict=False)
    )
    example = " ".join(f"{'photo.png' if pictures else 'x.npy'}" for _ in card["inputs"])
    lines = [
        "",
        f"Run it (`pip install ai-edge-litert numpy{' pillow' if pictures else ''}`):",
        "",
        f"    python predict.py {example}",
        "",
        f"It takes {'an image, ' if pictures else ''}an `.npy`, an `.npz` or a `.csv` with one item a row, and prints what "
        "the model says of each item; without a file, of the first stored sample.",
    ]
    for end, fact in zip(card["inputs"], card.get("data") or (), strict=False):
        name = code_span(end.get("key") or end["name"])
        lines.append(
            f"Values of `{name}` are those that the model was trained on: {fact['dtype']}, {fact['low']:.6g} to {fact['high']:.6g}."
        )
    if len(card["inputs"]) > 1:
        order = ", ".join(f"`{code_span(end.get('key') or end['name'])}`" for end in card["inputs"])
        lines.append(f"It takes a file for each input, in this order: {order}.")
    return lines


def reproduce(card: Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """How to make the same file again.

    Args:
        card: of the candidate.
        names: of the bundle's other files.
    """
    settings = "the settings that it had are in `study.yaml`, " if "study.yaml" in set(names) else ""
    given = card["provenance"].get("libraries", {})
    libraries = "".join(f"- {markdown(name)} {markdown(number)}\n" for name, number in given.items())
    return (
        "# Making this model again\n\n"
        f"Candidate #{card['candidate']} of the study `{code_span(card['study'])}`, recipe {card['recipe_digest']}.\n\n"
        "1. Install autoopt and these versions, which results follow from:\n\n"
        f"{libraries}\n"
        "2. Have the study's folder: its task, model and data stayed with it and are not in this bundle "
        f"({settings}the recipe in `recipe.json`). In a copy without `out` nothing of the first run is used again.\n"
        "3. In this folder, with the study's for `STUDY`:\n\n"
        "       autoopt run STUDY --recipe recipe.json\n\n"
        "4. Export it (`autoopt front STUDY --all` shows its number, `autoopt export STUDY NUMBER --to again` writes it) and "
        f"compare the two `card.json`: the task's fingerprint was `{code_span(card['provenance'].get('task', ''))}`, the file's sha256 "
        f"`{card['sha256']}`. Training on several threads may differ in the last digits between machines; "
        "post-training schemes give the same bytes.\n"
    )
