"""Decides which of a recipe's jobs are worth doing, with what the study knows so far (see `bounds`)."""

import itertools
import json
import statistics
from collections.abc import Callable, Iterable

from autoopt.compression.stages import STAGES
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.recipe import Recipe
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Gate, Plan, Setting
from autoopt.execution.job_process import Outcome
from autoopt.models import loading
from autoopt.search.bounds import Point, Prospects, Verdict
from autoopt.study.objectives import Terms
from autoopt.study.search_options import Strategy

PROBE_PAYS = 2.0
"""So many times as long as a probe takes must be the training that it may save."""
AT_ONCE = 50
"""Skipped recipes that are looked at again between two steps of the search."""
STOP_PAYS = 2.0
"""So many times as long as going on later costs must be the epochs that stopping may save."""


class Foresight:
    """What the study knows about recipes that are not done.

    Args:
        use: which devices.
        setting: of the study.
        store: where results lie.
        terms: that the study is judged by.
        siblings: gives what shares all of a recipe's training, see `strategy.siblings`.
    """

    def __init__(
        self,
        use: Strategy,
        setting: Setting,
        store: Store,
        terms: Terms,
        siblings: Callable[[Recipe], list[Recipe]],
    ) -> None:
        self._use, self._setting, self._store = use, setting, store
        self._terms, self._siblings = terms, siblings
        self._candidates: tuple[Candidate, ...] = ()
        self._prospects = Prospects((), terms, exact=setting.target.exact)
        self._learnt = False
        self._asked_again: set[int] = set()
        self._one_shot: dict[str, dict[str, float]] = {}
        self._probe_s: list[float] = []

    def learn(self, candidates: Iterable[Candidate]) -> None:
        """Take over what is done by now."""
        self._candidates, self._learnt, self._asked_again = tuple(candidates), False, set()

    @property
    def prospects(self) -> Prospects:
        """The bounds by what is done."""
        if not self._learnt:
            self._prospects.learn(self._candidates)
            self._learnt = True
        return self._prospects

    # ---- before training

    def verdict(self, recipe: Recipe) -> Verdict | None:
        """Why training a recipe can't pay; None if it can."""
        return self._verdict(recipe) if self._use.skipping and self._stages_left(recipe) else None

    def _verdict(self, recipe: Recipe, point: Point | None = None, score: float | None = None) -> Verdict | None:
        return self.prospects.verdict(recipe, self._one_shot.get(recipe.digest), point, score)

    def probe(self, recipe: Recipe) -> Plan | None:
        """The jobs of its one-shot file, where that can show that the training can't pay, and costs much less."""
        if not self._use.skipping or recipe.digest in self._one_shot or not recipe.compresses:
            return None
        decisive = {*self._terms.objectives, *(budget.metric for budget in self._terms.budgets)}
        shown = {
            "size_bytes",
            "compressed_bytes",
            "download_bytes",
            *(self._setting.target.measures if job_graph.shows_all(recipe, self._setting) else ()),
        }
        if not self.prospects.tells(recipe, decisive & shown):
            return None
        plan = job_graph.probe(recipe, self._setting)
        return plan if self._is_made(plan) or self.training_s(recipe) > PROBE_PAYS * self._probe_seconds() else None

    def probed(self, recipe: Recipe, plan: Plan, outcomes: Iterable[Outcome]) -> None:
        """Take over what a probe has shown."""
        self._one_shot[recipe.digest] = self._shown(plan)
        self._probe_s.append(sum(outcome.seconds for outcome in outcomes))

    def _is_made(self, plan: Plan) -> bool:
        return all(self._store.seconds(job.key) is not None for job in plan.jobs)

    def _shown(self, plan: Plan) -> dict[str, float]:
        read = {name: self._store.get(key) for name, key in plan.results.items()}
        found = {name: json.loads(data) for name, data in read.items() if data is not None}
        shown: dict[str, float] = dict(found.get("weigh", {}))
        for reading in found.get("memory", {}).get("readings", ())[:1]:
            shown |= reading
        if processes := found.get("latency", {}).get("processes"):
            shown["latency_ms"] = min(ns for one in processes for rounds in one for ns, _ in rounds) / 1e6
        return shown

    def _probe_seconds(self) -> float:
        """What a probe costs: as the last ones did, or twice what making the baseline's file took."""
        if self._probe_s:
            return statistics.median(self._probe_s)
        jobs = job_graph.plan(self._setting.baseline, self._setting).jobs
        return 2 * next((self._store.seconds(job.key) or 0.0 for job in jobs if job.name == "float32"), 0.0)

    def revived(self, skipped: Iterable[Skipped]) -> Skipped | None:
        """One of the skipped recipes that may reach the front after all, by what was learnt since they were skipped.

        Each is asked again once after something was learnt, a few at a time: of thousands all at once would hold the search up.
        """
        waiting = (one for one in skipped if one.number not in self._asked_again)
        for one in itertools.islice(waiting, AT_ONCE):
            self._asked_again.add(one.number)
            if self._verdict(one.recipe, one.point, one.score) is None:
                self._recall(one.recipe)
                if self._verdict(one.recipe, one.point, one.score) is None:
                    return one
        return None

    def _recall(self, recipe: Recipe) -> None:
        """Take over what an earlier run's probe has shown, if the store has it."""
        if recipe.digest not in self._one_shot and recipe.compresses:
            plan = job_graph.probe(recipe, self._setting)
            if self._is_made(plan):
                self._one_shot[recipe.digest] = self._shown(plan)

    # ---- while training

    def gates(self, plan: Plan) -> list[Gate]:
        """Where to judge a training again: not after its last stage, when all is paid for."""
        return list(plan.gates[:-1]) if self._use.halving else []

    def begins(self, recipe: Recipe) -> bool:
        """Whether stopping after the first epochs can save more than going on later costs."""
        reports = [r for c in self._candidates for r in c.report if r.get("epoch_seconds")]
        if not self._use.halving or recipe.finetune is None or not reports:
            return False
        epoch_s = statistics.median(r["epoch_seconds"] for r in reports)
        beside_s = statistics.median(r["seconds"] - len(r["epochs"]) * r["epoch_seconds"] for r in reports)
        return bool((recipe.finetune.epochs - 1) * epoch_s > STOP_PAYS * beside_s)

    def stop(self, recipe: Recipe, gate: Gate) -> Verdict | None:
        """Why going on with a training can't pay, for any scheme of its model; None if it can."""
        score = self._score_at(gate)
        if score is None:
            return None
        first: Verdict | None = None
        for one in (recipe, *(self._siblings(recipe) if self._use.siblings else ())):
            verdict = self._verdict(one, gate.point, score)
            if verdict is None:
                return None
            first = first or verdict
        return first

    def _score_at(self, gate: Gate) -> float | None:
        data = self._store.get(gate.after)
        if data is None:
            return None
        stage, how = gate.point
        if how == "done":
            return self.prospects.reached(loading.reports_of(data), gate.point)
        epochs = json.loads(data)["epochs"]
        report = {"stage": stage, "epochs": epochs, "judged_epoch": len(epochs)}
        return self.prospects.reached([report], gate.point)

    # ---- what training costs

    def training_s(self, recipe: Recipe) -> float:
        """Seconds of training that a recipe needs beyond what the store holds; epochs where no second is known."""
        known = [r["seconds"] / len(r["epochs"]) for c in self._candidates for r in c.report]
        return sum(self._stages_left(recipe)) * (statistics.median(known) if known else 1.0)

    def share_left(self, recipe: Recipe) -> float:
        """Which share of its training is not in the store: 0 if it has all of it, or needs none."""
        total = sum(settings["finetune"]["epochs"] for _, settings in recipe.stages())
        return sum(self._stages_left(recipe)) / total if total else 0.0

    def _stages_left(self, recipe: Recipe) -> list[int]:
        jobs = job_graph.plan(recipe, self._setting).jobs
        stages = [job for job in jobs if job.name in STAGES]
        return [job.settings["finetune"]["epochs"] for job in stages if self._store.seconds(job.key) is None]
