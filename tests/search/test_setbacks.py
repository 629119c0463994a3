"""When a person is called: once in each spell of waits that lasts, and not for what mends itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.execution.job_process import Outcome
from autoopt.search.candidate_run import CandidateRun
from autoopt.search.sampler import Proposal
from autoopt.search.setbacks import SPELL_S, STUCK_S, Setbacks


class Night:
    """Setbacks by a clock of its own."""

    def __init__(self) -> None:
        self.now, self.calls, self.said = 0.0, [], []
        self.setbacks = Setbacks(self.said.append, lambda: self.now, "phone", self.calls.append)
        self.run = CandidateRun(proposal=Proposal.again(Candidate(number=3, recipe=Recipe())))

    def wait(self, state: str, seconds: float, every: float = 60.0) -> None:
        for _ in range(int(seconds / every)):
            outcome = Outcome(key="k", name="latency", stage="latency", state=state, reason="no phone", seconds=1.0)
            self.setbacks.step(self.run, outcome, needed=False)
            self.now += every


@pytest.mark.parametrize("state", ["away", "waiting"])
def test_a_person_is_called_once_for_what_lasts(state: str) -> None:
    night = Night()
    night.wait(state, STUCK_S - 120)
    assert night.calls == []
    night.wait(state, 20 * STUCK_S)
    assert night.calls == ["#3 has waited for 15 min 00 s: no phone"]


def test_a_person_is_called_again_when_it_had_gone_on() -> None:
    night = Night()
    night.wait("away", 2 * STUCK_S)
    night.setbacks.answered()
    night.wait("away", 2 * STUCK_S)
    assert len(night.calls) == 2


@given(pauses=st.lists(st.floats(SPELL_S + 1, 10_000), max_size=50))
def test_nobody_is_called_for_setbacks_far_apart(pauses: list[float]) -> None:
    night = Night()
    for pause in pauses:
        night.wait("waiting", 60)
        night.now += pause
    assert night.calls == []


def test_nobody_is_called_for_kills() -> None:
    night = Night()
    night.wait("killed", 60)
    assert night.calls == []
