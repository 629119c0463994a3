"""A gate for continuous integration: does a bundle's file, or a new one, keep to budgets, also on new data?

What the study recorded counts for the file that it recorded it of. Of another file sizes are counted here, and its quality is
measured here where there is data; what has to be measured on the target is not guessed.
"""

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.api import measure_file
from autoopt.api.measure_file import Items
from autoopt.api.recorded import Recorded, recorded
from autoopt.api.verification import read, read_card, verify
from autoopt.core import budgets as budget_syntax
from autoopt.core import deflate, gate
from autoopt.core.budgets import Budget
from autoopt.core.gate import Evidence, Ruling
from autoopt.core.metrics import Measurement, difference
from autoopt.core.reprs import short, typed
from autoopt.errors import ConfigError
from autoopt.models import quality
from autoopt.models.labels import BINARY, LABELS, Meaning
from autoopt.models.quality import Quality
from autoopt.models.scoring import BUILTIN
from autoopt.reporting.bundle.bundle import MODEL
from autoopt.reporting.bundle.card import NAME as CARD
from autoopt.tflite import interpreter
from autoopt.tflite.contents import Contents

AGREEMENT = "agreement"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What became of the budgets.

    Attributes:
        bundle: its folder.
        file: that was judged.
        data: that its quality was measured on, or ``.
        sha256: of the file.
        rulings: one a budget.
        notes: what else a person should know, a line each.
    """

    bundle: str
    file: str
    data: str
    sha256: str
    rulings: tuple[Ruling, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Gate of {short(self.file)}: {', '.join(ruling.verdict for ruling in self.rulings)}>"

    @property
    def exit_code(self) -> int:
        """0 where the file is inside all budgets, 1 where one is broken, 3 where one can't be judged."""
        return gate.exit_code(self.rulings)

    def text(self) -> str:
        """A line a budget, and the notes."""
        return "\n".join([*(ruling.text() for ruling in self.rulings), *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("bundle", "file", "data", "sha256", "exit_code")}
        return plain | {"budgets": [ruling.to_dict() for ruling in self.rulings], "notes": list(self.notes)}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is to be judged.

    Attributes:
        bundle: its folder.
        card: what it records.
        path: of the file to judge.
        own: whether that is the bundle's own.
        data: path of the items, or None.
        baseline: path of the untouched model's file, or None.
    """

    bundle: Path
    card: Recorded
    path: Path
    own: bool
    data: Path | None
    baseline: Path | None


def judge(
    bundle: str | os.PathLike[str],
    texts: Sequence[str] = (),
    *,
    file: Path | None = None,
    data: Path | None = None,
    baseline: Path | None = None,
) -> Gate:
    """Hold a file against budgets.

    Args:
        bundle: folder that `autoopt export` wrote.
        texts: budgets in the shared syntax; the study's own if there are none.
        file: a new `.tflite` in place of the bundle's.
        data: an `.npz` with `x_test` and `y_test` (or others of `measure_file.PAIRS`), in place of the study's figures.
        baseline: the untouched model's `.tflite`, for budgets against the baseline: it is run over the same data.

    Raises:
        ConfigError: if the bundle, a file, the data or a budget is not what it should be.
        CandidateFailed: if the runtime can't run a file.
        TargetUnavailable: if there is no room to run one.
    """
    folder = Path(bundle)
    card = recorded(read_card(folder), str(folder / CARD))
    if baseline is not None and data is None:
        raise ConfigError("the baseline's file is compared on data: give --data too, or leave --baseline out")
    asked = [budget_syntax.parse(text, card.metrics) for text in texts]
    asked = asked or [budget_syntax.parse(text, card.metrics, stored=True) for text in card.budgets]
    if not asked:
        raise ConfigError("no budget: the bundle's study has none; give --budget, such as 'size_bytes <= 300 KB'")
    shipped = hashlib.sha256(read(folder, MODEL)).hexdigest()
    path = folder / MODEL if file is None else file
    content, contents = measure_file.examine(path)
    digest = hashlib.sha256(content).hexdigest()
    doubts = _doubts(folder)
    own = digest == shipped and "model" not in doubts
    if file is None and not own:
        raise ConfigError(f"{path}: {doubts['model']}; give a new file with --file")
    case = _Case(bundle=folder, card=card, path=path, own=own, data=data, baseline=baseline)
    known = _known(case, content, contents, trusted=not doubts)
    rulings = [
        gate.judge(budget, card.metrics[budget.metric], known.get(budget.metric, ()), _why(budget, case, doubts))
        for budget in asked
    ]
    return Gate(
        bundle=str(folder),
        file=str(path),
        data="" if data is None else str(data),
        sha256=digest,
        rulings=tuple(rulings),
        notes=tuple(f"note: {text}" for text in doubts.values()),
    )


def _doubts(folder: Path) -> dict[str, str]:
    """What keeps the card from telling of the bundle's file as it runs here, in words: of the file, or of what it gives."""
    found = {}
    for check in verify(folder).checks:
        if check.holds is False and check.name in (MODEL, "outputs"):
            kind = "model" if check.name == MODEL else "outputs"
            found[kind] = f"the bundle's {check.name} differ from what {CARD} tells of: {check.text}"
    return found


def _known(case: _Case, content: bytes, contents: Contents, *, trusted: bool) -> dict[str, tuple[Evidence, ...]]:
    """Evidence of the file that is judged, by the name of a metric."""
    found = dict(case.card.values) if case.own else _sizes(content, case.card)
    name = case.card.quality.name
    if not trusted:  # the file gives other outputs here than where it was measured
        found = {metric: known for metric, known in found.items() if metric not in (name, AGREEMENT)}
    if case.data is not None:
        for metric in (name, AGREEMENT):
            found.pop(metric, None)
        if not _foreign(case.card):
            found |= _measured(case, content, contents, trusted=trusted)
    return found


def _sizes(content: bytes, card: Recorded) -> dict[str, tuple[Evidence, ...]]:
    """The sizes of a file, counted, and the baseline's as recorded."""
    sizes = {
        "size_bytes": len(content),
        "compressed_bytes": interpreter.compressed_bytes(content),
        "download_bytes": len(deflate.smallest_gzip(content)),
    }
    found: dict[str, tuple[Evidence, ...]] = {}
    for name, size in sizes.items():
        before = card.values.get(name, ())
        reference = before[0].baseline if before else None
        value = Measurement.exact(size, "counted")
        found[name] = (Evidence(value=value, baseline=reference, where="counted here"),)
    return found


def _foreign(card: Recorded) -> bool:
    """Whether the quality can't be measured here: it is a function of the task's own, which no bundle holds."""
    return card.own_metric or card.quality.name not in BUILTIN


def _measured(case: _Case, content: bytes, contents: Contents, *, trusted: bool) -> dict[str, tuple[Evidence, ...]]:
    """The quality on the data, and the agreement with the baseline where its file is given."""
    assert case.data is not None
    items = Items.read(case.data).real(contents)
    meaning, mine = _quality(case, items, case.path, content, contents, None)
    where = f"on {case.data} ({mine.measurement.n:,} items)"
    found: dict[str, tuple[Evidence, ...]] = {}
    if case.baseline is not None:
        _, theirs = _quality(case, items, case.baseline, *measure_file.examine(case.baseline), meaning)
        reference = theirs.measurement.value
        change = difference(mine.scores, theirs.scores)
        where += f", the baseline {case.baseline} on the same items"
        if mine.predictions:
            agreement = quality.agreement(mine.predictions, theirs.predictions)
            found[AGREEMENT] = (Evidence(value=agreement, where=where),)
        evidence = Evidence(value=mine.measurement, baseline=reference, change=change, where=where)
    elif case.own:
        evidence = _against_record(case.card.best_known, mine.measurement, where)
    elif trusted:
        shipped = case.bundle / MODEL
        _, before = _quality(case, items, shipped, *measure_file.examine(shipped), meaning)
        evidence = _by_way_of(case.card.best_known, mine, before, where)
    else:
        evidence = Evidence(value=mine.measurement, where=where)
    return found | {case.card.quality.name: (evidence,)}


def _against_record(known: Evidence | None, value: Measurement, where: str) -> Evidence:
    """The quality of the bundle's file on new data, against what the study recorded of the baseline on other items."""
    if known is None or known.baseline is None:
        return Evidence(value=value, where=where)
    return Evidence(
        value=value, baseline=known.baseline, where=f"{where}; the baseline's is of other items, as {known.where}"
    )


def _by_way_of(known: Evidence | None, mine: Quality, shipped: Quality, where: str) -> Evidence:
    """The quality of a new file against the baseline: what it is off the bundle's file, and what the study found that to be off.

    Args:
        known: what the study recorded of the bundle's file.
        mine: the new file's quality on the data.
        shipped: that of the bundle's file on the same items.
        where: on what.
    """
    if known is None or known.baseline is None:
        return Evidence(value=mine.measurement, where=where)
    step = difference(mine.scores, shipped.scores)
    before = known.change or (known.value.value - known.baseline,) * 3
    total = step[0] + before[0]
    low, high = (math.copysign(math.hypot(step[end] - step[0], before[end] - before[0]), end - 1.5) for end in (1, 2))
    return Evidence(
        value=mine.measurement,
        baseline=mine.measurement.value - total,
        change=(total, total + low, total + high),
        where=f"{where}, by way of the bundle's file on the same items and its change as {known.where}",
    )


def _quality(
    case: _Case, items: Items, path: Path, content: bytes, contents: Contents, meaning: Meaning | None
) -> tuple[Meaning, Quality]:
    """The task's metric of a file on the data, and how labels and outputs were read.

    Raises:
        ConfigError: if the data do not fit the file or the metric.
    """
    outputs = measure_file.outputs_of(path, content, items.inputs(path, contents))
    name = case.card.quality.name
    if meaning is None:
        meaning = _meaning(case.card, items, outputs)
        if meaning.kind not in BUILTIN[name].kinds:
            raise ConfigError(f"{items.where[1]}: expected labels that {name} judges, got such as mean {meaning.kind}")
    how = f"LiteRT interpreter on {len(items.labels)} items"
    return meaning, quality.score(name, meaning, items.labels, outputs, how)


def _meaning(card: Recorded, items: Items, outputs: Any) -> Meaning:
    """How labels and outputs are read, with the threshold that the card tells."""
    meaning = items.meaning(outputs)
    if meaning.kind in (BINARY, LABELS) and len(card.thresholds) == 1:
        return dataclasses.replace(meaning, threshold=card.thresholds[0])
    return meaning


def _why(budget: Budget, case: _Case, doubts: Mapping[str, str]) -> str:
    """Why nothing is known of what a budget limits, and what to do."""
    card, metric = case.card, budget.metric
    if metric == card.quality.name:
        if _foreign(card) and (case.data is not None or not case.own):
            return f"{metric} is a function of the task's own, which no bundle holds; run the study with the new model or data"
        if doubts:
            return (
                "the bundle's file gives other outputs here than where it was measured; give --data to measure it here"
            )
        return f"the {metric} of a new file is measured on data: give --data"
    if metric == AGREEMENT:
        return "the agreement with the baseline needs its file and data: give --baseline and --data"
    if case.own:
        return f"the study did not measure {card.metrics[metric].label}"
    return (
        f"{card.metrics[metric].label} of a new file has to be measured on the target: "
        f"`autoopt measure {typed(case.path)} --target {typed(card.target)}`"
    )
