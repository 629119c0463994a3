"""What the sampler proposes, and what is proposed in its place."""

import importlib.util
import random
from pathlib import Path

import optuna
import pytest

from autoopt.core.metrics import STANDARD
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError
from autoopt.search.sampler import Proposals
from autoopt.study.folder import SAMPLERS

SPACE = {
    "prune": {"sparsity": [0.3, 0.5, 0.7], "frequency": 10},
    "cluster": {"number": [8, 16]},
    "scheme": ["float32", "int8"],
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_recipe_is_proposed_once_and_then_none(tmp_path: Path, sampler: str) -> None:
    if sampler == "gp":
        pytest.importorskip("torch", reason="Optuna's Gaussian process needs torch, which autoopt does without")
    space = parse(SPACE, "test")
    metrics = [STANDARD["size_bytes"], STANDARD["latency_ms"]]
    proposals = Proposals(tmp_path / "study.db", space, Finetune(), metrics, sampler, seed=0)
    seen: dict[str, int] = {}
    while (proposal := proposals.ask(seen, len(seen))) is not None:
        assert proposal.recipe.digest not in seen
        assert proposal.number == len(seen)
        seen[proposal.recipe.digest] = proposal.number
        assert proposal.trial is not None
        proposals.tell(proposal.trial, [float(len(seen)), 1.0], {"size_bytes <= 10": len(seen) - 10.0})
    assert len(seen) == space.count() == 4 * 3 * 2


def test_the_gaussian_process_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="sampler: gp needs torch, which is not installed"):
        Proposals(tmp_path / "study.db", parse(SPACE, "test"), Finetune(), [STANDARD["size_bytes"]], "gp", seed=0)


def test_a_study_goes_on_with_the_space_that_it_began_with(tmp_path: Path) -> None:
    """A space that is fitted to its task anew stays what it was for a study begun before."""
    before, fitted = parse(SPACE, "test"), parse(SPACE | {"prune": {"sparsity": [0.5, 0.7], "frequency": 10}}, "test")
    metrics = [STANDARD["size_bytes"]]

    def opened(name: str, space: SearchSpace, before: tuple[SearchSpace, ...]) -> SearchSpace:
        proposals = Proposals(tmp_path / name, space, Finetune(), metrics, "tpe", seed=0, before=before)
        proposals.identity = proposals.identity or {"space": proposals.space_digest}
        return proposals.space

    assert opened("old.db", before, ()) == before
    assert opened("old.db", fitted, (fitted, before)) == before
    assert opened("new.db", fitted, (before,)) == fitted
    assert opened("new.db", fitted, (before,)) == fitted


def test_in_place_of_a_repeated_recipe_comes_one_like_it(tmp_path: Path) -> None:
    space = parse(SPACE, "test")
    proposals = Proposals(tmp_path / "study.db", space, Finetune(), [STANDARD["size_bytes"]], "tpe", seed=0)
    first = proposals.ask({}, 0)
    assert first is not None
    proposals.enqueue(first.recipe, "search")
    second = proposals.ask({first.recipe.digest: 0}, 1)
    assert second is not None
    one, two = (space.parameters(p.recipe, Finetune()) for p in (first, second))
    assert one is not None
    assert two is not None
    shared = set(one) & set(two)
    assert sum(one[name] != two[name] for name in shared) == 1


def test_what_a_kill_cut_off_while_it_was_asked_for_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, metrics = parse(SPACE, "test"), [STANDARD["size_bytes"]]

    def opened() -> Proposals:
        return Proposals(tmp_path / "study.db", space, Finetune(), metrics, "tpe", seed=0)

    first = opened()
    recipe = space.random(random.Random(0), Finetune(), 0)
    first.enqueue(recipe, "corner")
    with monkeypatch.context() as patch:

        def killed(self: optuna.Trial, key: str, value: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(optuna.Trial, "set_user_attr", killed)
        with pytest.raises(KeyboardInterrupt):
            first.ask({}, 0)

    again = opened()
    assert list(again.earlier()) == []
    again.enqueue(recipe, "corner")
    proposal = again.ask({}, 0)
    assert proposal is not None
    assert (proposal.recipe, proposal.origin, proposal.number) == (recipe, "corner", 0)


@pytest.mark.parametrize(
    "name",
    [
        "a%20b",
        "100%",
        "{x}",
        "{",
        "a?b=c",
        "a#b",
        'it\'s "q"',
        "Müller",
        "a\nb",
        "-lead",
        " sp ace ",
        "a:b@c",
        "[x]",
        "%(h)s",
    ],
)
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    database = tmp_path / name / "study.db"
    database.parent.mkdir()
    space, metrics = parse(SPACE, "test"), [STANDARD["size_bytes"], STANDARD["latency_ms"]]
    first = Proposals(database, space, Finetune(), metrics, "random", seed=0)
    proposal = first.ask({}, 0)
    assert proposal is not None
    again = Proposals(database, space, Finetune(), metrics, "random", seed=0)
    assert [earlier.recipe for earlier in again.earlier()] == [proposal.recipe]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
