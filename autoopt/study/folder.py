"""A study's folder: its configuration, where its store is, and who runs it."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt import targets
from autoopt.core import search_space_yaml as spaces
from autoopt.core import units, yaml_file
from autoopt.core.presets import PRESETS
from autoopt.core.recipe import MAX_SEED
from autoopt.core.reprs import short, typed
from autoopt.core.search_space import SearchSpace
from autoopt.core.validation import expect_keys, expect_number, expect_one_of, fail
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.study import on_end
from autoopt.study.layout import Layout
from autoopt.study.on_end import OnEnd
from autoopt.study.search_options import Strategy
from autoopt.system.locks import try_lock
from autoopt.targets import Target
from autoopt.targets.benchmark import REPEATS

LOOKING_S = 0.3
"""How long a study that seems to be held is asked for again."""
LONGEST = 900
"""Characters of a message about study.yaml."""
SAMPLERS = ("tpe", "random", "nsga2", "gp")
WHOLE = {"trials": (1, 10**9), "threads": (1, 10_000), "seed": (0, MAX_SEED), "slots": (1, 10_000), "gpus": (0, 10_000)}
"""Settings that are whole numbers, with the least and the most that makes sense of each."""
KEYS = (
    "task",
    "space",
    "preset",
    "objectives",
    "budgets",
    "equivalence",
    "trials",
    "hours",
    "target",
    "threads",
    "confirm",
    "seed",
    "sampler",
    "measuring",
    "search",
    "slots",
    "gpus",
    "limits",
    "store",
    on_end.KEY,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one job may take.

    Attributes:
        job_seconds: time in which it is not frozen; infinite, where it follows from what a training's first epoch takes.
        job_bytes: resident memory; None for this machine's memory shared by the slots, less 2 GB.
    """

    job_seconds: float = math.inf
    job_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A `study.yaml`, checked.

    Attributes:
        task: path of the task's Python file.
        space: what may be sampled.
        preset: how stages fine-tune where the task does not say so, one of `presets.PRESETS`; `` for the usual way.
        objectives: metric names; `quality` stands for the task's own metric. By default the target's.
        budgets: in the shared syntax; read when the task's metric is known.
        equivalence: by how much the qualities of two candidates may differ and count as as good; `` for the default.
        trials: candidates in all, the baseline and its schemes among them.
        hours: after which no new candidate is begun; None for no limit.
        target: where it is measured.
        threads: of the interpreter while measuring.
        confirm: measure the front again when the search has ended.
        seed: of the search and of every candidate.
        sampler: one of `SAMPLERS`.
        search: which devices the search uses beside the sampler.
        slots: training jobs at a time; None for as many as cores and memory allow.
        gpus: that trainings may use; None for all that there are.
        limits: of one job.
        measuring: how thoroughly times are read, one of `benchmark.REPEATS`.
        store_limit: bytes that the store may grow to; None for as many as the disk holds.
        on_end: who is told when a run ends; None for nobody.
    """

    task: Path
    space: SearchSpace
    preset: str = ""
    objectives: tuple[str, ...]
    budgets: tuple[str, ...] = ()
    equivalence: str = ""
    trials: int = 50
    hours: float | None = None
    target: Target
    threads: int = 1
    confirm: bool = True
    seed: int = 0
    sampler: str = "tpe"
    search: Strategy = field(default_factory=Strategy)
    slots: int | None = None
    gpus: int | None = None
    limits: Limits = field(default_factory=Limits)
    measuring: str = "usual"
    store_limit: float | None = None
    on_end: OnEnd | None = None


class StudyFolder(Layout):
    """A study's folder that is there.

    Raises:
        ConfigError: if the folder is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder; `autoopt init {typed(self.path)} ...` makes a study")

    def store(self) -> Path:
        """The store's folder: `out/store`, or where the last run was told to keep it.

        Raises:
            TargetUnavailable: if the note of that can't be read.
        """
        try:
            place = os.fsdecode(self.store_note.read_bytes()).removesuffix("\n")
        except FileNotFoundError:
            return self.usual_store
        except OSError as error:
            raise TargetUnavailable(f"{self.store_note}: can't read where the store is ({error.strerror})") from error
        if not place or "\0" in place:
            raise TargetUnavailable(f"{self.store_note}: expected the store's folder, got nothing; give --store again")
        return Path(place)

    def lock(self) -> Any:
        """Hold the study: one driver at a time. Keep the value; it lets go when closed.

        Raises:
            TargetUnavailable: if another driver holds it.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            held = open(self.lock_file, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - the caller keeps it open
        except OSError as error:
            raise TargetUnavailable(f"{self.out}: can't write ({error.strerror})") from error
        patience = time.monotonic() + LOOKING_S  # whoever looks whether a driver runs holds it for a moment
        while not (locked := try_lock(held)) and time.monotonic() < patience:
            time.sleep(0.01)
        if not locked:
            held.seek(0)
            who = held.read().strip() or "unknown"
            held.close()
            raise TargetUnavailable(
                f"{self.path}: another autoopt (process {who}) is running this study; wait for it, or stop it"
            )
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        return held

    def driver(self) -> int | None:
        """Process number of the driver that is running the study, or None."""
        with contextlib.suppress(OSError), open(self.lock_file, encoding="utf-8", errors="replace") as held:
            if not try_lock(held, shared=True):
                number = held.read(20).strip()
                return int(number) if number.isascii() and number.isdigit() else 0
        return None

    def config(self, target: str | None = None) -> StudyConfig:
        """Read `study.yaml`.

        Args:
            target: in place of the study's own.

        Raises:
            ConfigError: naming file, path, expected and got.
        """
        file = self.settings
        try:
            values = yaml_file.load(file)
        except yaml_file.Missing as error:
            raise ConfigError(f"{error}; a study needs a study.yaml") from error
        try:
            return self._config({} if values is None else values, target)
        except ConfigError as error:
            text = str(error)
            named = text.startswith((f"{self.path}{os.sep}", f"{file}:"))
            said = text if named else f"{file}: {text}"
            raise ConfigError(short(said, LONGEST)) from error  # it quotes what stands there, line breaks and all

    def _config(self, values: Any, target: str | None) -> StudyConfig:
        expect_keys("study", values, KEYS)
        settings: dict[str, Any] = {"task": self._inside(values.get("task", "task.py")), "space": self._space(values)}
        for name in ("objectives", "budgets"):
            if name in values:
                settings[name] = _texts(name, values[name])
        if "objectives" in settings and not settings["objectives"]:
            raise ConfigError("objectives: the list is empty; give at least one metric")
        if "equivalence" in values:
            if isinstance(values["equivalence"], bool) or not isinstance(values["equivalence"], str | int | float):
                fail("equivalence", "a margin such as '1 point' or '1 % of baseline'", values["equivalence"])
            settings["equivalence"] = str(values["equivalence"])
        for name, (lowest, most) in WHOLE.items():
            if name in values:
                settings[name] = expect_number(name, values[name], minimum=lowest, maximum=most, whole=True)
        if values.get("hours") is not None:
            settings["hours"] = hours("hours", values["hours"])
        if "preset" in values:
            settings["preset"] = expect_one_of("preset", values["preset"], PRESETS)
        if "sampler" in values:
            settings["sampler"] = expect_one_of("sampler", values["sampler"], SAMPLERS)
        if "measuring" in values:
            settings["measuring"] = expect_one_of("measuring", values["measuring"], REPEATS)
        if "search" in values:
            settings["search"] = _strategy(values["search"])
        if "confirm" in values:
            if not isinstance(values["confirm"], bool):
                fail("confirm", "true or false", values["confirm"])
            settings["confirm"] = values["confirm"]
        text = values.get("target", "host") if target is None else target
        if not isinstance(text, str):
            fail("target", "a text such as host or vela:ethos-u55-128", text)
        settings["target"] = targets.find(text, settings.get("threads", 1))
        settings.setdefault("objectives", settings["target"].objectives)
        settings["budgets"] = (*settings.get("budgets", ()), *settings["target"].budgets)
        if "limits" in values:
            settings["limits"] = _limits(values["limits"])
        if "store" in values:
            settings["store_limit"] = _store_limit(values["store"])
        if values.get(on_end.KEY) is not None:
            settings["on_end"] = on_end.read(values[on_end.KEY], self.path)
        return StudyConfig(**settings)

    def _inside(self, name: Any) -> Path:
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            fail("task", "a file inside the study's folder", name)
        return self.path / name

    def _space(self, values: Mapping[str, Any]) -> SearchSpace:
        given = values.get("space")
        if isinstance(given, str):
            return spaces.find(given, self.path)
        if isinstance(given, Mapping):
            return spaces.parse(given, f"{self.settings}: space")
        fail("space", f"a bundled space ({', '.join(spaces.bundled())}), a .yaml file, or the space itself", given)


def hours(where: str, given: Any) -> float:
    """Hours, of a number of them or a duration such as `90 min`; 0 is allowed, and begins nothing.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(given, int | float):
        return float(expect_number(where, given, minimum=0))
    expected = "a number of hours of at least 0, or a duration such as '90 min'"
    return 0.0 if given in ("0", "0.0") else units.seconds(where, given, expected=expected, bare="h") / 3600


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        fail(name, "a list of texts", value)
    return tuple(texts)


def _strategy(value: Any) -> Strategy:
    expect_keys("search", value, [f.name for f in dataclasses.fields(Strategy)])
    for name, given in value.items():
        if name == "items":
            expect_number("search.items", given, minimum=0, whole=True)
        elif not isinstance(given, bool):
            fail(f"search.{name}", "true or false", given)
    return Strategy(**value)


def _limits(value: Any) -> Limits:
    expect_keys("limits", value, ("job_time", "job_memory"))
    found: dict[str, Any] = {}
    if "job_time" in value:
        found["job_seconds"] = units.seconds("limits.job_time", value["job_time"], expected="such as '30 min'")
    if "job_memory" in value:
        size = units.size("limits.job_memory", value["job_memory"], expected="such as '4 GB'")
        found["job_bytes"] = int(size)
    return Limits(**found)


def _store_limit(value: Any) -> float | None:
    if isinstance(value, str):
        raise ConfigError(
            f"store: expected its limit, such as {{limit: 20 GB}}, got {short(value)!r}; the store's folder is given by "
            "`autoopt run --store`"
        )
    expect_keys("store", value, ("limit",))
    return units.size("store.limit", value["limit"], expected="such as '20 GB'") if "limit" in value else None
