"""The bundle: a folder with all that the next person needs of one candidate.

card.py       what is known of it                samples.py   items, and the outputs on them
recording.py  which items those are              replay.py    runs the file over them, in a process of its own
python.py     predict.py                         kotlin.py    Classifier.kt or Predictor.kt
firmware.py   model_data.cc and .h               readme.py    README.md, REPRODUCE.md
ends.py       inputs and outputs                 escaping.py  names that others chose
"""

import hashlib
import json
from collections.abc import Mapping

from autoopt.bundle import card as cards
from autoopt.bundle import firmware, readme
from autoopt.bundle.ends import End, Interface
from autoopt.bundle.escaping import one_line
from autoopt.bundle.kotlin import kotlin
from autoopt.bundle.python import NAME as PREDICT
from autoopt.bundle.python import predict_py
from autoopt.bundle.recording import Recording, of_classes, record
from autoopt.candidate import Candidate
from autoopt.results import Results
from autoopt.store import Store
from autoopt.task import Manifest

MODEL, SAMPLES, LABELS = "model.tflite", "samples.npz", "labels.txt"
NAMES = frozenset(readme.FILES) | {"README.md"}
"""All that a bundle may hold."""
GUARDED = (MODEL, SAMPLES, LABELS, firmware.SOURCE, firmware.HEADER, firmware.COMPILED)
"""Files whose sha256 the card holds: what is data, and not meant to be edited."""


def make(
    results: Results,
    candidate: Candidate,
    file: bytes,
    *,
    manifest: Manifest | None,
    store: Store,
    samples: bool = True,
    more: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The files of a candidate's bundle by name.

    Args:
        results: of the study.
        candidate: that is shipped.
        file: its `.tflite`.
        manifest: of the study's task, None where it is not known any more.
        store: the study's.
        samples: take a few items of the validation data along.
        more: files of the study to take along, by name.
    """
    card = cards.make_card(results, candidate)
    inputs, outputs = ([End.of(end) for end in card[kind]] for kind in ("inputs", "outputs"))
    recording = Recording(why="they were left out" if not samples else "the file's inputs and outputs are not known")
    if samples and inputs and outputs:
        recording = record(file, manifest, store, inputs, outputs)
    files, kept = {MODEL: file}, recording.samples
    if kept is not None:
        files[SAMPLES] = kept.to_bytes()
    labels = [one_line(name) for name in card["provenance"].get("class_names", ())]
    if labels:
        files[LABELS] = "".join(f"{name}\n" for name in labels).encode()
    files |= firmware.firmware(file, card)
    card |= {
        "samples": recording.told(),
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in GUARDED if name in files},
    }
    if inputs and outputs:
        classes = bool(labels or candidate.classes or (manifest is not None and of_classes(manifest)))
        interface = Interface(
            title=f"Candidate #{candidate.number} of the study {results.study}: {candidate.recipe.label()}.",
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            classes=classes and len(outputs) == 1 and len(outputs[0].item) == 1,
            labels=len(labels),
            threshold=0.5 if manifest is None else manifest.threshold,
            samples=card["samples"]["items"],
            spans=() if kept is None else tuple(map(End.span, inputs, kept.inputs)),
        )
        files |= _code(interface)
    files |= more or {}
    files |= {
        "recipe.json": candidate.recipe.to_json().encode(),
        "REPRODUCE.md": readme.reproduce(card).encode(),
        cards.TEXT: cards.card_text(card).encode(),
        cards.NAME: json.dumps(card, indent=2).encode(),
    }
    return files | {"README.md": readme.readme(card, files).encode()}


def _code(interface: Interface) -> dict[str, bytes]:
    if not interface.known:
        return {}
    name, text = kotlin(interface)
    return {PREDICT: predict_py(interface).encode(), name: text.encode()}
