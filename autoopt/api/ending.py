"""Says how a run of a study ended: writes it down, and tells whom `on_end:` names, whatever became of the run.

Nothing here may cost a result or change an exit code: what goes wrong while somebody is told is said in one line.
"""

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autoopt.api.saved_study import SavedResults
from autoopt.api.summary import so_far
from autoopt.core import last_run
from autoopt.core.last_run import LastRun
from autoopt.core.results import Results
from autoopt.errors import AutooptError, Stopped, TargetUnavailable, one_line
from autoopt.reporting import morning
from autoopt.search.stopping import Kind, Reason
from autoopt.study import run_record
from autoopt.study.folder import StudyFolder
from autoopt.study.on_end import KEY, OnEnd
from autoopt.system import telling

COMMAND_S, ANSWER_S = 60.0, 10.0
"""How long a command may take, and an answer."""
LAST_S = 5.0
"""How long either may take where the system has ended the run, and will not wait."""
_PATH = re.compile(r"(?<![\w.:/~])~?/(?:[^\s/:;,'\"()<>]+/)+([^\s/:;,'\"()<>]+)")
"""An absolute path in a sentence, and its last part."""
_BOARD = re.compile(r"ssh://[^\s:,;]+(:\d+)?")
"""The address of a board, with who logs in there."""


def exit_code(results: Results) -> int:
    """That of a run with these results: 1 where the study has budgets that nothing meets, else 0."""
    return int(bool(results.budgets) and results.pick().candidate is None)


class Ending:
    """Follows one run of a study to its end.

    Args:
        folder: of the study.
        on_end: who is told; None for nobody.
        run: what is asked of the run.
        say: tells a person in a line.
    """

    def __init__(self, folder: StudyFolder, on_end: OnEnd | None, run: LastRun, say: Callable[[str], object]) -> None:
        self.folder, self.on_end, self._run, self._say = folder, on_end, run, say
        self._began = False
        self._reason: Reason | None = None
        self._results: SavedResults | None = None

    def begin(self) -> None:
        """Write down that the run has begun; whoever holds the study calls this."""
        self._began = True
        run_record.write(self.folder, self._run)

    def call(self, reason: str) -> None:
        """Tell that a person has to see to something, while the run goes on."""
        self._run = dataclasses.replace(self._run, state=last_run.WAITING, reason=reason, since=now())
        self._write()
        self._tell(at_work=True)

    def searched(self, reason: Reason) -> None:
        """Take down why the search ended."""
        self._reason = reason

    def written(self, results: SavedResults) -> None:
        """Take down what all of it has come to."""
        self._results = results

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Write down how the run within ends, and tell it; nothing of a run that could not begin."""
        try:
            yield
        except BaseException as error:  # also Ctrl-C: whatever ends a run is told, and goes on its way
            if self._began:
                self._end(_state(error), _reason(error), error.exit_code if isinstance(error, AutooptError) else 1)
            raise
        if self._results is not None and self._reason is not None:
            asked = self._reason.kind is Kind.ASKED
            state = last_run.INTERRUPTED if asked else last_run.ENDED
            self._end(state, "" if asked else self._reason.text, exit_code(self._results))

    def _end(self, state: str, reason: str, code: int) -> None:
        self._run = dataclasses.replace(self._run, state=state, reason=reason, since=now(), exit_code=code)
        self._write()
        hurried = state == last_run.INTERRUPTED and self._results is None
        self._tell(LAST_S if hurried else math.inf, at_work=False)

    def _write(self) -> None:
        """Write down how it stands, unless another run has begun since."""
        written = run_record.read(self.folder)
        if written is None or written.begun <= self._run.begun:
            run_record.write(self.folder, self._run)

    def _tell(self, most_s: float = math.inf, *, at_work: bool) -> None:
        if self.on_end is None:
            return
        try:
            trouble = tell(self.on_end, self.folder, self._plain(at_work), most_s)
        except KeyboardInterrupt:
            trouble = "stopped by Ctrl-C"
        except Exception as error:  # whatever it is, it must not stand in the place of how the run ended
            trouble = _reason(error)
        if trouble:
            self._say(f"warning: {KEY}: {trouble}; nothing else depends on it")

    def _plain(self, at_work: bool) -> dict[str, Any]:
        """The summary as plain values, with the paths of this machine shortened: it may be sent elsewhere."""
        results = self._results or so_far(self.folder)
        name = self.folder.name
        found = morning.summarize(results, self._run, study=name, place=name, at_work=at_work)
        return {key: _bare(value, self.folder) for key, value in found.to_dict().items()}


def tell(on_end: OnEnd, folder: StudyFolder, plain: dict[str, Any], most_s: float = math.inf) -> str:
    """Tell whom `on_end:` names; what goes wrong is given in one line, `` where nothing does.

    Args:
        on_end: who is told.
        folder: of the study, in which a command works.
        plain: what is told, as `Summary.to_dict` gives it.
        most_s: how long it may take, if that is less than usual.
    """
    text = json.dumps(plain)
    if on_end.address:
        return telling.post(on_end.address, text, min(most_s, ANSWER_S))
    code = "" if plain["exit_code"] is None else str(plain["exit_code"])
    said = {"TEXT": plain["text"], "STUDY": plain["study"], "STATE": plain["state"], "EXIT_CODE": code}
    variables = telling.environment({f"AUTOOPT_{name}": value.replace("\0", "") for name, value in said.items()})
    trouble = telling.start(on_end.command, text, variables, folder.path, min(most_s, COMMAND_S))
    return f"{on_end.name} {trouble}" if trouble else ""


def now() -> str:
    """The moment, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _state(error: BaseException) -> str:
    """The state that an error leaves a run in."""
    if isinstance(error, Stopped | KeyboardInterrupt):
        return last_run.INTERRUPTED
    return last_run.WAITING if isinstance(error, TargetUnavailable | MemoryError) else last_run.FAILED


def _reason(error: BaseException) -> str:
    """What an error says, in one line; one that nobody foresaw is named by its kind."""
    if isinstance(error, AutooptError):
        return one_line(error.command_line)
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _bare(value: Any, folder: StudyFolder) -> Any:
    """A plain value in which paths of this machine are shortened to their names."""
    if isinstance(value, dict):
        return {key: _bare(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_bare(item, folder) for item in value]
    if not isinstance(value, str):
        return value
    for path in (folder.path.resolve(), folder.path.absolute()):
        value = value.replace(str(path), folder.name)
    return _BOARD.sub("ssh", _PATH.sub(r"\1", value))
