"""What of a store a study needs, and what its records account for and can do without.

Whatever goes is made again when it is wanted after all, for it follows from its recipe; but that takes its time again.
Results of measurements stay: they are small, and tell again what was found.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoopt import targets
from autoopt.compression.stages import STAGES
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Plan, Setting
from autoopt.models.task import Manifest
from autoopt.search import confirmation
from autoopt.study import records, store_users
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Header, Known
from autoopt.study.store_users import User

KINDS = STATE, MODEL, FILE = ("training states", "trained models", "files")
"""Kinds of what may go, in the order in which it goes."""
_KINDS = {**dict.fromkeys((*STAGES, "one_shot"), MODEL), **dict.fromkeys(("float32", "convert", "quantize"), FILE)}
"""By job, what its result is; those of other jobs stay."""
PICKED_BY = ("latency_ms", "compressed_bytes", "size_bytes", "download_bytes")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study as its folder tells, for who did not run it.

    Attributes:
        results: its candidates.
        setting: that they were made in; the machine, which only measurements hang on, is left out.
    """

    results: Results
    setting: Setting


def kept(results: Results) -> list[Candidate]:
    """The candidates whose files and trained models stay.

    The baseline and its schemes, the front inside the budgets and without them, the pick, near-ties that are to be measured
    again, and what is best in another way that a pick may turn on.
    """
    pick = results.pick_within(results.budgets).candidate
    wider = dataclasses.replace(results, objectives=tuple(dict.fromkeys((*results.objectives, *_turning(results)))))
    chosen = [*confirmation.choose(results), *([pick] if pick else ()), *results.front(), *results.front(())]
    return list({candidate.number: candidate for candidate in (*chosen, *wider.front(()))}.values())


def _turning(results: Results) -> list[str]:
    """The metrics beside the objectives that decide between picks, as far as the study measures them."""
    return [name for name in PICKED_BY if all(name in c.measurements for c in results.candidates if not c.failed)]


def needed(results: Results, setting: Setting) -> set[str]:
    """Keys of all that the candidates that stay need, to be exported and to be measured again."""
    found = set()
    for candidate in kept(results):
        found |= {candidate.file, *keys(job_graph.plan(candidate.recipe, setting, begin=True))}
    return found


def keys(plan: Plan) -> set[str]:
    """Keys of all that jobs make and start from, with the states of trainings under way."""
    states = {state for job in plan.jobs if (state := job.settings.get("state"))}
    return states.union(*({job.key, *job.parents} for job in plan.jobs))


def made_by(recipe: Recipe, setting: Setting) -> dict[str, str]:
    """By key of what a recipe's jobs make and that may go, its kind."""
    plans = [job_graph.plan(recipe, setting, begin=True)]
    if recipe.compresses:
        plans.append(job_graph.probe(recipe, setting))
    found: dict[str, str] = {}
    for job in (job for plan in plans for job in plan.jobs):
        if job.name in _KINDS:
            found[job.key] = _KINDS[job.name]
        if state := job.settings.get("state"):
            found[state] = STATE
    return found


def dispensable(
    results: Results, setting: Setting, wanted: Collection[str], made: dict[Recipe, Mapping[str, str]]
) -> dict[str, str]:
    """By key of what a study's records account for and nobody needs, its kind.

    Args:
        results: the study's.
        setting: of the study.
        wanted: keys that others need, or what is at work.
        made: by recipe, as of `made_by`, as far as it was asked for before; it is brought up to date.
    """
    # What was made by other versions of the libraries has other keys, which the records know of files alone.
    found = {candidate.file: FILE for candidate in results.candidates if candidate.file}
    for recipe in (*(c.recipe for c in results.candidates), *(s.recipe for s in results.skipped)):
        if recipe not in made:
            made[recipe] = made_by(recipe, setting)
        found |= made[recipe]
    keep = needed(results, setting).union(wanted)
    return {key: kind for key, kind in found.items() if key not in keep}


def others(store: Store, folder: StudyFolder, known: defaultdict[Path, Known]) -> set[str]:
    """Keys of what other studies need in a store, with what their candidates that are not done need.

    Args:
        store: that they share.
        folder: of the study that asks; what it said that it needs counts too.
        known: by study's folder, what was read of it before.

    Raises:
        TargetUnavailable: if that can't be known of every one of them.
    """
    store_users.expect_all_known(store, folder)
    own, found = store_users.note_of(store, folder), set[str]()
    for user in store_users.users(store):
        found |= user.needs
        if user.note != own:
            found |= _of_another(user, store, known)
    return found


def _of_another(user: User, store: Store, known: defaultdict[Path, Known]) -> set[str]:
    try:
        study = past(StudyFolder(user.folder), store, known[user.folder])
    except (ConfigError, TargetUnavailable) as error:
        raise TargetUnavailable(
            f"{user.note}: what the study {user.folder} needs is not known ({error}); run it again, or delete the note if "
            "the study is gone"
        ) from error
    return set() if study is None else needed(study.results, study.setting)


def past(folder: StudyFolder, store: Store, known: Known) -> Study | None:
    """A study as its folder tells; None where nothing is written down yet.

    Args:
        folder: the study's.
        store: that holds its task.
        known: what was read of it before.

    Raises:
        ConfigError: if its target is not known here.
        TargetUnavailable: if records are damaged, or its store does not know its task any more.
    """
    found = records.read(folder, known)
    if found.damaged:
        damage = found.damaged[0]
        raise TargetUnavailable(f"{damage.path} is damaged: {damage.reason}")
    if found.header is None and not found.candidates:
        return None
    if found.header is None:
        raise TargetUnavailable(f"{folder.header} is missing")
    results = Results(
        study=found.header.study,
        metrics=found.header.metrics,
        quality=found.header.quality.name,
        objectives=found.header.objectives,
        budgets=found.header.budgets,
        equivalence=found.header.equivalence,
        candidates=found.candidates,
        skipped=found.skipped,
    )
    return Study(results=results, setting=_setting(found.header, folder, store))


def _setting(header: Header, folder: StudyFolder, store: Store) -> Setting:
    facts, text = header.provenance, store.get(header.manifest) if header.manifest else None
    if text is None:
        raise TargetUnavailable(f"{store.root} does not know the task of {folder.path}")
    manifest = Manifest.from_json(text)
    threads = int(facts.get("threads", 1))
    return Setting(
        task=header.manifest,
        fingerprint=manifest.fingerprint,
        model=manifest.model,
        target=targets.find(str(facts.get("target", "host")), threads),
        machine="",
        threads=threads,
        seed=int(facts.get("seed", 0)),
    )
