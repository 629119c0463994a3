"""Optuna: proposes recipes, is told how they did, and remembers both across interruptions.

The database holds, for each trial, the recipe, its candidate's number and what Optuna needs; the
candidates themselves lie in files of their own.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import random
import sqlite3
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import optuna
import sqlalchemy
from optuna.trial import TrialState

from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.metrics import Metric
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError, TargetUnavailable, one_line

RANDOM_DRAWS = 2000
"""Tries to find a recipe that was not seen before; a space is exhausted after them."""
Trial = optuna.trial.Trial


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A recipe that was begun.

    Attributes:
        number: of the candidate.
        recipe: to try.
        origin: `baseline`, `scheme`, `corner`, `sibling`, `search` or `finalist`.
        trial: Optuna's, still to be told; None if it was told before.
        attempts: how often its machine was lost.
    """

    number: int
    recipe: Recipe
    origin: str
    trial: Trial | None
    attempts: int = 0

    @classmethod
    def again(cls, found: Candidate | Skipped) -> Self:
        """What is written down already, to be made or measured again under its number."""
        return cls(number=found.number, recipe=found.recipe, origin=found.origin, trial=None)

    def lost(self, attempts: int) -> None:
        """Remember how often its machine was lost."""
        if self.trial is not None:
            self.trial.set_user_attr("attempts", attempts)


class Proposals:
    """A study's proposals.

    Args:
        database: path of the SQLite file.
        space: what may be proposed.
        defaults: fine-tuning settings where the space names none.
        objectives: metrics, in order.
        sampler: one of `folder.SAMPLERS`.
        seed: of the sampler and of the recipes.
        before: what may be proposed in its place, if the study began with one of them.
    """

    def __init__(
        self,
        database: Path,
        space: SearchSpace,
        defaults: Finetune,
        objectives: Sequence[Metric],
        sampler: str,
        seed: int,
        before: Sequence[SearchSpace] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        least, most = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
        self._space, self._defaults, self._seed = space, defaults, seed
        self._study = optuna.create_study(
            study_name="autoopt",
            storage=_storage(database),
            directions=[least if metric.direction == "min" else most for metric in objectives],
            load_if_exists=True,
        )
        # Begun anew with the same seed, a sampler would repeat what it drew before an interruption.
        self._study.sampler = _sampler(sampler, seed + len(self._study.get_trials(deepcopy=False)))
        # In memory alone: a run that goes on knows anew what is to come first, and a night enqueues thousands.
        self._waiting: dict[str, tuple[Recipe, str]] = {}
        for _ in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.tell(self._study.ask(), state=TrialState.FAIL)
        begun = self._study.user_attrs.get("identity", {}).get("space")
        self._space = next((one for one in (space, *before) if begun == _digest(one)), space)

    @property
    def space(self) -> SearchSpace:
        """What may be proposed."""
        return self._space

    def hold(self, part: str, use: bool) -> None:
        """Propose nothing more without a part of the space, or with it.

        Args:
            part: an optional one, see `stage_settings.OPTIONAL`.
            use: whether it is used from now on.
        """
        self._space = self._space.held(part, use)

    @property
    def space_digest(self) -> str:
        """What tells the space from another."""
        return _digest(self._space)

    @property
    def identity(self) -> dict[str, Any]:
        """What results must have in common, as the database has it; empty while it has not."""
        return dict(self._study.user_attrs.get("identity", {}))

    @identity.setter
    def identity(self, facts: Mapping[str, Any]) -> None:
        self._study.set_user_attr("identity", dict(facts))

    def begun(self) -> Iterator[Proposal]:
        """All candidates that were begun, those that were not finished with their trial."""
        for trial in self._study.get_trials(deepcopy=False):
            kept = trial.user_attrs
            if "candidate" in kept:
                running = trial.state == TrialState.RUNNING
                yield Proposal(
                    number=kept["candidate"],
                    recipe=Recipe.from_json(kept["recipe"]),
                    origin=kept["origin"],
                    trial=Trial(self._study, trial._trial_id) if running else None,
                    attempts=kept.get("attempts", 0),
                )

    def numbers(self) -> set[int]:
        """The numbers of the candidates that were begun."""
        attributes = (trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        return {kept["candidate"] for kept in attributes if "candidate" in kept}

    def put_back(self, found: Candidate | Skipped) -> Trial:
        """A trial for a record that the database does not know, still to be told; nothing may wait."""
        self.enqueue(found.recipe, found.origin)
        trial = self._ask()
        self._recipe_of(trial)
        _note(trial, found.recipe, found.origin, found.number)
        return trial

    def earlier(self) -> Iterator[Proposal]:
        """What an earlier run began; what was not yet noted down of it is forgotten."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "candidate" not in trial.user_attrs:  # killed between ask and the last note
                self._study.tell(trial.number, state=TrialState.FAIL)
        yield from self.begun()

    def enqueue(self, recipe: Recipe, origin: str) -> None:
        """Have a recipe proposed next; the sampler learns from it as far as it lies in the space."""
        self._waiting.setdefault(recipe.digest, (recipe, origin))

    @property
    def enqueued(self) -> list[Recipe]:
        """The recipes that come next."""
        return [recipe for recipe, _ in self._waiting.values()]

    def propose(self, recipe: Recipe, origin: str, number: int) -> Proposal:
        """A proposal of this recipe, whatever else waits.

        Args:
            recipe: that was not begun.
            origin: see `Proposal`.
            number: for its candidate.
        """
        self._waiting = {recipe.digest: (recipe, origin), **self._waiting}
        trial = self._ask()
        self._recipe_of(trial)
        _note(trial, recipe, origin, number)
        return Proposal(number=number, recipe=recipe, origin=origin, trial=trial)

    def _ask(self) -> Trial:
        """Optuna's next trial: of the first recipe that waits, if one does."""
        if self._waiting:
            recipe, origin = self._waiting.pop(next(iter(self._waiting)))
            parameters = self._space.parameters(recipe, self._defaults) or {}
            self._study.enqueue_trial(parameters, user_attrs={"recipe": recipe.to_json(), "origin": origin})
        return self._study.ask()

    def ask(self, seen: Container[str], number: int) -> Proposal | None:
        """A recipe that was not tried yet, or None if none is left.

        Args:
            seen: digests of the recipes that were tried.
            number: for its candidate.
        """
        trial = self._ask()
        recipe, origin = self._recipe_of(trial)
        while recipe.digest in seen:
            # FAIL is invisible to the samplers: a copy must not weigh twice.
            self._study.tell(trial, state=TrialState.FAIL)
            unseen = self._near(recipe, seen, number)
            if unseen is None:
                return None
            if not self._waiting:
                self.enqueue(unseen, "search")
            trial = self._ask()
            recipe, origin = self._recipe_of(trial)
        _note(trial, recipe, origin, number)
        return Proposal(number=number, recipe=recipe, origin=origin, trial=trial)

    def _recipe_of(self, trial: Trial) -> tuple[Recipe, str]:
        given = trial.user_attrs.get("recipe")
        if given is None:
            return self._space.sample(trial, self._defaults, self._seed), "search"
        recipe = Recipe.from_json(given)
        if self._space.parameters(recipe, self._defaults) is not None:
            self._space.sample(trial, self._defaults, self._seed)  # tells Optuna the parameters
        return recipe, trial.user_attrs["origin"]

    def _near(self, recipe: Recipe, seen: Container[str], number: int) -> Recipe | None:
        """A recipe that was not tried yet: like this one but for a knob or a few, if there is such a one.

        Asking again until something new comes would cost more, and samplers repeat themselves in small spaces.
        """
        rng = random.Random(f"{self._seed} {number}")
        given = self._space.parameters(recipe, self._defaults) or {}
        for draw in range(RANDOM_DRAWS):
            # First one knob is drawn anew, later more and more, in the end all.
            share = 2 * draw * len(given) // RANDOM_DRAWS
            if share >= len(given):
                found = self._space.random(rng, self._defaults, self._seed)
            else:
                kept = set(rng.sample(sorted(given), len(given) - max(1, share)))
                found = self._space.build(
                    lambda name, knob: given[name] if name in kept else knob.random(rng),  # noqa: B023 - used at once
                    self._defaults,
                    self._seed,
                )
            if found.digest not in seen:
                return found
        return None

    def tell(self, trial: Trial, values: Sequence[float] | None, excesses: Mapping[str, float]) -> None:
        """Say how a recipe did.

        Args:
            trial: of its proposal.
            values: the objectives, or None if it failed.
            excesses: by each budget, how far it is outside; 0 or less is inside.
        """
        if values is None:
            # Optuna's PRUNED: unlike FAIL the sampler learns from it to keep away.
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # set already, before an interruption
            for budget, excess in excesses.items():
                trial.set_constraint(budget, excess)
        self._study.tell(trial, list(values))


def _note(trial: Trial, recipe: Recipe, origin: str, number: int) -> None:
    """Remember in the database which candidate a trial is; the number comes last, and says that all is there."""
    for name, value in (("origin", origin), ("recipe", recipe.to_json()), ("candidate", number)):
        trial.set_user_attr(name, value)


def _digest(space: SearchSpace) -> str:
    """What tells a space from another."""
    knobs = {name: str(knob) for name, knob in sorted(space.knobs.items())}
    return hashlib.sha256(json.dumps(knobs).encode()).hexdigest()


def _storage(database: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a file of any name: in an address, `%`, `?` and braces of a folder's name mean something else."""
    connect = functools.partial(sqlite3.connect, database, check_same_thread=False)
    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "gp":
            if importlib.util.find_spec("torch") is None:
                raise ConfigError("sampler: gp needs torch, which is not installed; `pip install torch`, or use tpe")
            # Knobs that apply only under others are beyond it; it chooses those at random, and would say so each time.
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


@contextlib.contextmanager
def one_line_errors(database: Path) -> Iterator[None]:
    """Say in one line what is wrong with the database.

    Raises:
        TargetUnavailable: in place of Optuna's and SQLAlchemy's own errors.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = one_line(error.__cause__ or error, 200)
        raise TargetUnavailable(
            f"{database}: can't be used ({reason}); free space, or restore it, then run again"
        ) from error
