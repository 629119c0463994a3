"""The bundle: a folder with all that the next person needs of one candidate.

card.py       what is known of it                samples.py   items, and the outputs on them
recording.py  which items those are              replay.py    runs the file over them, in a process of its own
meaning.py    what the outputs mean              python.py    predict.py, which is made of the next two:
own_files.py  reads a person's own files         telling.py   says what the outputs mean for them
table_rows.py prepares the rows of their tables
kotlin.py     Classifier.kt or Predictor.kt      firmware.py  model_data.cc and .h
readme.py     README.md, REPRODUCE.md            ends.py      inputs and outputs
escaping.py   names that others chose            model_card.py README.md as the Hugging Face Hub reads it
"""

import hashlib
import json
from collections.abc import Mapping

from autoopt.core.candidate import Candidate
from autoopt.core.deflate import smallest_gzip
from autoopt.core.results import Results
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Manifest
from autoopt.reporting.bundle import card as cards
from autoopt.reporting.bundle import firmware, readme
from autoopt.reporting.bundle.ends import End, Interface
from autoopt.reporting.bundle.escaping import one_line
from autoopt.reporting.bundle.kotlin import kotlin
from autoopt.reporting.bundle.meaning import of_outputs
from autoopt.reporting.bundle.model_card import model_card
from autoopt.reporting.bundle.python import NAME as PREDICT
from autoopt.reporting.bundle.python import predict_py
from autoopt.reporting.bundle.recording import Recording, fed, record
from autoopt.targets import edgetpu, vela

MODEL, PACKED, SAMPLES, LABELS = "model.tflite", "model.tflite.gz", "samples.npz", "labels.txt"
NAMES = frozenset(readme.FILES) | {"README.md", "task.py"}
"""All that a bundle may hold; those of before held the study's `task.py`."""
GUARDED = (MODEL, PACKED, SAMPLES, LABELS, firmware.SOURCE, firmware.HEADER, vela.COMPILED, edgetpu.COMPILED)
"""Files whose sha256 the card holds: what is data, and not meant to be edited."""


def make(
    results: Results,
    candidate: Candidate,
    file: bytes,
    *,
    manifest: Manifest | None,
    store: Store,
    samples: bool = True,
    hub: bool = False,
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
        hub: make `README.md` a model card of the Hugging Face Hub.
        more: files of the study to take along, by name.
    """
    card = cards.make_card(results, candidate)
    inputs, outputs = ([End.of(end) for end in card[kind]] for kind in ("inputs", "outputs"))
    recording = Recording(why="they were left out" if not samples else "the file's inputs and outputs are not known")
    if samples and inputs and outputs:
        recording = record(file, manifest, store, inputs, outputs)
    files, kept = {MODEL: file, PACKED: smallest_gzip(file)}, recording.samples
    if kept is not None:
        files[SAMPLES] = kept.to_bytes()
    labels = [one_line(name) for name in card["provenance"].get("class_names", ())]
    if labels:
        files[LABELS] = "".join(f"{name}\n" for name in labels).encode()
    files |= firmware.firmware(file, card)
    real = () if kept is None else tuple(map(End.real, outputs, kept.outputs))
    meaning = of_outputs(manifest, outputs, real, names=len(labels), one_hot=recording.one_hot)
    card |= {
        "data": fed(manifest, store, inputs),
        "meaning": [one.to_dict() for one in meaning],
        "samples": recording.told(),
        "own_metric": manifest is not None and manifest.metric["function"] is not None,
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in GUARDED if name in files},
    }
    if inputs and outputs:
        interface = Interface(
            title=f"Candidate #{candidate.number} of the study {results.study}: {candidate.recipe.label()}.",
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            classes=len(outputs) == 1 and meaning[0].kind in ("classes", "binary") and len(outputs[0].item) == 1,
            labels=len(labels),
            threshold=meaning[0].threshold,
            samples=card["samples"]["items"],
            spans=() if kept is None else tuple(map(End.span, inputs, kept.inputs)),
        )
        files |= _code(interface)
    files |= more or {}
    files |= {
        "recipe.json": candidate.recipe.to_json().encode(),
        "REPRODUCE.md": readme.reproduce(card, files).encode(),
        cards.TEXT: cards.card_text(card).encode(),
        cards.NAME: json.dumps(card, indent=2).encode(),
    }
    text = readme.readme(card, files)
    if hub:
        text = model_card(card, f"{text}\n{cards.card_text(card)}")
    return files | {"README.md": text.encode()}


def _code(interface: Interface) -> dict[str, bytes]:
    if not interface.known:
        return {}
    name, text = kotlin(interface)
    return {PREDICT: predict_py(interface).encode(), name: text.encode()}
