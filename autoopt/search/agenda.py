"""What a search tries next: what an earlier run left, what is enqueued, and what the sampler proposes."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Setting
from autoopt.search import initial_design, known_failures, ladder, worth
from autoopt.search.early_stopping import Foresight
from autoopt.search.initial_design import Waiting
from autoopt.search.ladder import Held
from autoopt.search.sampler import Proposal, Proposals
from autoopt.study.folder import StudyConfig
from autoopt.study.ledger import Ledger

CORNER = "corner"
"""Origin of the first trainings."""
FINALIST = "finalist"
"""Origin of what is trained again on all of the data, in the end."""


@dataclass(kw_only=True)
class Agenda:
    """What a search tries next.

    Attributes:
        config: of the study, its space fitted to the task.
        setting: of the study.
        defaults: fine-tuning settings where the space names none.
        ledger: what is done.
        proposals: Optuna's study.
        foresight: what is known of recipes that are not done.
        store: holds the candidates' files.
        trials: candidates in all.
        recipes: make just these instead of searching.
        say: told what a person should know.
        seen: number of each recipe that was begun, by its digest.
    """

    config: StudyConfig
    setting: Setting
    defaults: Finetune
    ledger: Ledger
    proposals: Proposals
    foresight: Foresight
    store: Store
    trials: int
    recipes: Sequence[Recipe] = ()
    say: Callable[[str], None] = lambda text: None
    seen: dict[str, int] = field(default_factory=dict)
    _pool: list[Waiting[Proposal]] = field(default_factory=list)
    _first: set[str] = field(default_factory=set)
    _dry: bool = False
    _able: tuple[dict[int, Candidate], list[str]] | None = None
    _paying: tuple[dict[int, Candidate], list[str]] | None = None

    # ---- what was begun before

    def take_up(self) -> list[Proposal]:
        """What an earlier run began and did not finish; what it did finish is taken over."""
        self._restore()
        unfinished = []
        for proposal in self.proposals.earlier():
            self.seen[proposal.recipe.digest] = proposal.number
            found = self._recorded(proposal)
            if found is None:
                unfinished.append(proposal)
                self._first |= {proposal.recipe.digest} if proposal.origin == CORNER else set()
            elif isinstance(found, Candidate):
                self.tell(proposal, found)
            else:
                self.tell_skipped(proposal)
        self.foresight.learn(self.ledger.candidates.values())
        return unfinished

    def _recorded(self, proposal: Proposal) -> Candidate | Skipped | None:
        """What is written down of a proposal; not that a baseline failed: nothing could be read off it.

        Raises:
            ConfigError: if that is of another recipe.
        """
        found = self.ledger.recall(proposal.number)
        if found is not None and found.recipe != proposal.recipe:
            database = self.ledger.folder.database
            raise ConfigError(
                f"{database}: #{proposal.number} is {proposal.recipe.label()} there, and {found.recipe.label()} in the "
                f"study's records: it belongs to another study; put the study's own back, or delete it: "
                "it is made again from the records"
            )
        if isinstance(found, Candidate) and found.failed and self.is_baseline(found.recipe):
            self.ledger.candidates.pop(found.number)
            return None
        return found

    def _restore(self) -> None:
        """Put records that the database does not know back into it: it was lost, or an older copy put in its place.

        They are told to the sampler with all others.
        """
        known = self.proposals.numbers()
        for number in self.ledger.numbers():
            if number not in known and (found := self.ledger.recall(number)) is not None:
                self.proposals.put_back(found)

    def is_baseline(self, recipe: Recipe) -> bool:
        """Whether all else is read against this recipe."""
        return recipe in (self.setting.baseline, self.setting.reference)

    def reference(self) -> Candidate | None:
        """The candidate that latencies are relative to, once it is measured."""
        number = self.seen.get(self.setting.reference.digest)
        return None if number is None else self.ledger.candidates.get(number)

    # ---- what comes first

    def open(self) -> list[Proposal]:
        """Enqueue the baseline before all else, its schemes, then what was asked for by name.

        Returns:
            what was asked for by name and is to be made again under its number.
        """
        if not self.seen:
            self.proposals.enqueue(Recipe(seed=self.config.seed), "baseline")
        elif 0 in self.ledger.candidates and not self.recipes:
            self.enqueue_schemes()
            for candidate in self.ledger.candidates.values():
                self.enqueue_siblings(candidate)
        return self._asked_for() if self.recipes else []

    def _asked_for(self) -> list[Proposal]:
        # All else is read against these two; the baseline is enqueued already.
        self.enqueue({self.setting.reference} - {self.setting.baseline}, "scheme")
        begun = {*self.seen, self.setting.baseline.digest, self.setting.reference.digest}
        unseen = {r.digest: r for r in self.recipes if r.digest not in begun}
        for recipe in unseen.values():
            self.proposals.enqueue(recipe, "search")
        written = {*self.ledger.candidates, *self.ledger.skipped}
        unwritten = [digest for digest in begun if self.seen.get(digest, -1) not in written]
        self.trials = len(self.ledger.candidates) + len(unwritten) + len(unseen)
        return [again for recipe in dict.fromkeys(self.recipes) if (again := self._again(recipe)) is not None]

    def _again(self, recipe: Recipe) -> Proposal | None:
        """The recipe under its number, where it failed, was skipped, or its file is lost."""
        number = self.seen.get(recipe.digest, -1)
        found = self.ledger.candidates.get(number) or self.ledger.skipped.get(number)
        if found is None:
            return None
        if isinstance(found, Candidate) and not found.failed and self.store.seconds(found.file) is not None:
            return None
        return Proposal.again(found)

    def enqueue_schemes(self) -> None:
        """The reference, then the space's post-training schemes: they cost seconds, and all else is read against them."""
        schemes = dict.fromkeys([self.setting.target.reference, *self.schemes(post_training=True)])
        self.enqueue((Recipe(scheme=name, seed=self.config.seed) for name in schemes), "scheme")

    def follow(self, ended: Candidate | Skipped) -> None:
        """Enqueue what follows from a candidate that is done, or was not worth its training."""
        if isinstance(ended, Skipped):
            self.enqueue_paying_siblings(ended)
        else:
            self.enqueue_siblings(ended)
            if ended.origin == "baseline" and not self.recipes:
                self.enqueue_schemes()
        self.climb()

    def enqueue_siblings(self, candidate: Candidate) -> None:
        """Other schemes of a model that is trained now, where it still does its work, or stands on the front."""
        if candidate.failed or self.recipes or candidate.origin == "sibling" or not self.config.search.siblings:
            return  # a sibling's siblings are enqueued, or not worth it
        results = self.ledger.results()
        if not worth.broken(candidate, results) or candidate in results.front():
            self.enqueue(self.siblings(candidate.recipe), "sibling")

    # ---- the first trainings

    def climb(self) -> None:
        """Enqueue what is to be trained first, as far as what it depends on has ended."""
        if self.recipes or not self.config.search.corners or 0 not in self.ledger.candidates:
            return
        if not self._schemes_are_done():
            return
        results = self.ledger.results()
        self._decide_begin(results)
        space, schemes = self.proposals.space, self._paying_schemes() or self.schemes()
        if (tuned := self._tuned()) is not None:
            self._enqueue_first([tuned])
            space = space.held("tune", False)
        found = ladder.rungs(space, schemes, self.defaults, self.config.seed, lambda r: self._held(r, results))
        # Until it is known where to begin from, one way alone is gone, beside that training.
        self._enqueue_first(found if tuned is None else found[:1])

    def _enqueue_first(self, recipes: Sequence[Recipe]) -> None:
        self._first |= {recipe.digest for recipe in recipes}
        self.enqueue(recipes, CORNER)

    def _schemes_are_done(self) -> bool:
        """Whether the untouched model's schemes have ended: those that fail on it are not trained for."""
        ended = {*self.ledger.candidates, *self.ledger.skipped}
        return all(number in ended for number in self._numbers_of_schemes())

    def _numbers_of_schemes(self) -> list[int]:
        """Numbers of the untouched model in each of the schemes that are made after training; -1 where it was not begun."""
        recipes = (Recipe(scheme=name, seed=self.config.seed) for name in self.schemes(post_training=True))
        return [self.seen.get(recipe.digest, -1) for recipe in recipes]

    def _tuned(self) -> Recipe | None:
        """The untouched model, trained further, where the space leaves open whether all begins from that."""
        space, schemes = self.proposals.space, self.schemes(post_training=True)
        if (knob := space.knobs.get("tune")) is None or knob.count < 2:
            return None
        largest = next((name for name in reversed(ladder.SMALL) if name in schemes), "float32")
        tuning = space.tuning(lambda name, knob: knob.middle(), self.defaults)
        return Recipe(tune=tuning, scheme=largest, seed=self.config.seed)

    def _decide_begin(self, results: Results) -> None:
        """Have all recipes begin from the model that is trained further, if that is better beyond chance, or none."""
        recipe = self._tuned()
        if recipe is None or self._held(recipe, results) in (Held.NEW, Held.BEGUN):
            return
        untouched = Recipe(scheme=recipe.scheme, seed=recipe.seed)
        tuned, plain = (self.ledger.candidates.get(self.seen.get(one.digest, -1)) for one in (recipe, untouched))
        if tuned is None or tuned.failed or plain is None or plain.failed:
            self.proposals.hold("tune", False)
            return
        metric = results.metrics[results.quality]
        _, low, high = results.difference(tuned, plain)
        better = max(metric.sign * low, metric.sign * high) < 0
        self.proposals.hold("tune", better)
        shows = (
            "that training the model further makes it better: all that follows begins from there"
            if better
            else "no gain beyond chance from training the model further: nothing that follows begins from there"
        )
        self.say(f"{tuned.name} shows {shows}")

    def _held(self, recipe: Recipe, results: Results) -> Held:
        """What has become of a recipe, for those that are to follow it."""
        number = self.seen.get(recipe.digest)
        if number is None:
            return Held.NEW
        if number in self.ledger.skipped:
            return Held.BROKEN
        candidate = self.ledger.candidates.get(number)
        if candidate is None:
            return Held.BEGUN
        return Held.BROKEN if worth.broken(candidate, results) else Held.GOOD

    def enqueue_paying_siblings(self, skipped: Skipped) -> None:
        """Other schemes of a recipe that was skipped for its own: they may well pay."""
        if skipped.point is None and self.config.search.siblings:
            self.enqueue((r for r in self.siblings(skipped.recipe) if self.foresight.verdict(r) is None), "sibling")

    def siblings(self, recipe: Recipe) -> list[Recipe]:
        """Recipes that share all of its training, in schemes that pay."""
        space = self.config.space
        return initial_design.siblings(recipe, self._paying_schemes(), space.quantize, space.packed)

    def _paying_schemes(self) -> list[str]:
        """The schemes made after training that have something over the others, by what is done."""
        known = self.ledger.candidates
        if self._paying is None or self._paying[0] is not known:
            self._paying = known, worth.paying(self.schemes(post_training=True), self.ledger.results())
        return self._paying[1]

    def schemes(self, *, post_training: bool = False) -> list[str]:
        """The space's schemes that the target runs, without those that failed on this model for good."""
        known = self.ledger.candidates
        if self._able is None or self._able[0] is not known:  # asked for each of thousands of candidates
            self._able = known, known_failures.schemes(self.config.space, self.setting.target, known.values())
        return [name for name in self._able[1] if not (post_training and SCHEMES[name].qat)]

    def enqueue(self, recipes: Iterable[Recipe], origin: str) -> None:
        """Have recipes tried next that were not begun."""
        for recipe in recipes:
            if recipe.digest not in self.seen:
                self.proposals.enqueue(recipe, origin)
                self._dry = False

    # ---- what comes next

    def room(self, running: int) -> bool:
        """Whether fewer candidates are done, at work and proposed than were asked for."""
        return len(self.ledger.candidates) + running + len(self._pool) < self.trials

    def learnt(self) -> None:
        """Say that something has ended: what seemed to be all may not be all any more."""
        self._dry = False
        self.foresight.learn(self.ledger.candidates.values())

    def next(self, running: Collection[int]) -> Proposal | None:
        """A recipe to begin; None if there is none now.

        What is enqueued goes first. Of the sampler's proposals a few wait, and the one that shares most goes next.

        Args:
            running: numbers of the candidates at work.
        """
        idle = (s for number, s in self.ledger.skipped.items() if number not in running)
        if not self.recipes and (revived := self.foresight.revived(idle)) is not None:
            return Proposal.again(revived)
        most = initial_design.POOL if self.config.search.sharing and 0 in self.ledger.candidates else 1
        while len(self._pool) < most and self.room(len(running)) and not self._dry:
            if self._waits_to_begin(running):
                break
            proposal = self.proposals.ask(self.seen, self._free_number())
            if proposal is None:
                self._dry = True
                break
            self.seen[proposal.recipe.digest] = proposal.number
            if proposal.origin != "search":
                return proposal
            self._pool.append(Waiting(proposal=proposal))
        if not self._pool:
            return None
        chosen, self._pool = initial_design.next_of(
            self._pool, lambda proposal: self.foresight.share_left(proposal.recipe)
        )
        return chosen

    def ahead(self) -> list[Recipe]:
        """The recipes that wait to be begun."""
        return [*self.proposals.enqueued, *(waiting.proposal.recipe for waiting in self._pool)]

    def _waits_to_begin(self, running: Collection[int]) -> bool:
        """Whether the sampler would have to guess: what to begin from, or, before any training is done, how much the model bears."""
        if self.proposals.enqueued or not self.config.search.corners or self.recipes:
            return False
        tuned = self._tuned()
        if tuned is not None and self.seen.get(tuned.digest) in running:
            return True
        known: tuple[Candidate | Skipped, ...] = (*self.ledger.candidates.values(), *self.ledger.skipped.values())
        return not any(one.origin == CORNER for one in known) and any(
            self.seen.get(digest) in running for digest in self._first
        )

    def propose(self, recipe: Recipe, origin: str) -> Proposal:
        """A recipe that was not begun, to be made beside what was asked for."""
        proposal = self.proposals.propose(recipe, origin, self._free_number())
        self.seen[recipe.digest] = proposal.number
        self.trials += 1
        return proposal

    def _free_number(self) -> int:
        """The lowest number that no candidate has: one that was lost with the database leaves no gap."""
        taken = set(self.seen.values())
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def trying_schemes(self, busy: Collection[int]) -> bool:
        """Whether the last of the space's schemes is being tried alone: what fails there is not trained for.

        Args:
            busy: numbers of the candidates at work that don't wait.
        """
        alone = self._numbers_of_schemes()
        return any(number in busy for number in alone) and -1 not in alone and not self.recipes

    # ---- what the sampler is told

    def tell(self, proposal: Proposal, candidate: Candidate) -> None:
        """Tell the sampler how a candidate did."""
        if proposal.trial is not None:
            self.proposals.tell(proposal.trial, *self.ledger.told(candidate))

    def tell_skipped(self, proposal: Proposal) -> None:
        """Tell the sampler that a recipe was not worth its training."""
        if proposal.trial is not None:
            self.proposals.tell(proposal.trial, None, {})
