"""The structure that keeps the package small to hold in mind and quick to start."""

import ast
import subprocess
import sys
from pathlib import Path

import builders
import pytest

PACKAGE = builders.ROOT / "autoopt"
ORDER = [
    "errors", "screen", "foreign", "lifeline", "locks", "scratch", "isolation", "pure_operations", "keras_config", "keras_files", "saved_models", "validation", "jsontext", "quantities", "yamlfile", "reprs", "labels", "scoring", "interrupts", "recipe", "metrics", "budgets", "equivalence", "candidate", "judging", "tables", "ranking", "picking", "interchange", "results", "hypervolume", "words", "comparison", "scale", "scatter", "guard", "importance", "confirmation", "knobs", "space", "strategy", "targets",
    "store", "sizes", "replaying", "stand_ins", "keras3_losses", "flattening", "keras3_settings", "placeholders", "rebuilding", "closing", "usercode", "models", "unrolling", "task", "quality", "crosscheck", "measure", "stages", "given", "criteria", "weighing", "intake", "quantizing", "inspect", "convert", "proof", "standalone", "scaling", "jobs", "pipeline", "machine_gate", "starting", "trouble", "process", "assemble", "engine", "preload",
    "folder", "records", "provenance", "bundle", "export", "verification", "progress", "figures", "pictures", "page", "report", "watched", "dashboard", "proposals", "spent", "terms", "fitting", "foregone", "init", "relatives", "prospects", "foresight", "ledger", "identity", "stopping", "candidate_run", "agenda", "driver", "search", "study", "suspicions", "covering", "rehearsal", "questions", "doctor", "terminal", "checklist", "commands", "cli", "__main__",
]  # fmt: skip
"""Top to bottom: a module imports only from those before it."""
HOMES = {
    "tensorflow": {
        "replaying",
        "placeholders",
        "stand_ins",
        "rebuilding",
        "flattening",
        "closing",
        "saved_models",
        "models",
        "given",
        "task",
        "stages",
        "convert",
        "jobs",
        "preload",
    },
    "keras": {"models", "rebuilding", "closing", "placeholders", "stand_ins"},
    "tf_keras": {
        "criteria",
        "crosscheck",
        "keras3_losses",
        "keras3_settings",
        "placeholders",
        "stand_ins",
        "rebuilding",
        "flattening",
        "saved_models",
        "models",
        "intake",
        "task",
        "stages",
        "scaling",
        "unrolling",
        "convert",
        "preload",
    },
    "tensorflow_model_optimization": {"models", "stages", "preload"},
    "optuna": {"proposals"},
    "distributed": {"engine"},
    "plotly": {"figures", "report", "pictures", "dashboard"},
    "dash": {"dashboard"},
    "sklearn": {"scoring"},
    "moocore": {"hypervolume"},
    "plotext": {"scatter"},
    "kaleido": {"pictures"},
    "choreographer": {"pictures"},
    "PIL": {"bundle"},
}


def modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(name, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_modules_import_only_upwards() -> None:
    for name, paths in modules().items():
        if name == "__init__":
            continue
        for path in paths:
            own = {n.split(".")[1] for n in imported(path) if n.startswith("autoopt.")} & set(ORDER)
            below = {other for other in own - {name} if ORDER.index(other) > ORDER.index(name)}
            assert not below, f"{path.name} imports {below}, which stand below it"


def test_every_module_has_its_place() -> None:
    assert set(modules()) - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_heavy_libraries_stay_at_home(library: str) -> None:
    users = {name for name, paths in modules().items() for p in paths if {
        n for n in imported(p) if n.split(".")[0] == library}}  # fmt: skip
    assert users <= HOMES[library]


@pytest.mark.parametrize(
    "code",
    ["import autoopt", "import autoopt.cli", "import autoopt.export", "from autoopt import Recipe, Results, load"],
)
def test_starting_loads_nothing_heavy(code: str) -> None:
    heavy = ["tensorflow", "tf_keras", "optuna", "distributed", "dash", "pandas", "plotly", "scipy"]
    check = f"import sys; {code}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_module_outgrows_a_head() -> None:
    sizes = {path.name: len(path.read_text().splitlines()) for paths in modules().values() for path in paths}
    assert {name: size for name, size in sizes.items() if size > 700} == {}


def test_every_public_name_can_be_had() -> None:
    import autoopt

    for name in autoopt.__all__:
        assert getattr(autoopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = autoopt.nothing


WRITERS = {"screen", "bundle", "targets", "isolation", "process"}
"""Those that write: one for all, programs of their own in bundles and on targets, and processes whose output goes to a log."""


def test_one_module_writes_to_the_terminal() -> None:
    """Names of other people would steer it otherwise."""
    for name, paths in modules().items():
        for path in paths if name not in WRITERS else ():
            calls = {
                ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            }
            writing = {
                "print",
                "click.echo",
                "click.secho",
                "click.prompt",
                "click.confirm",
                "traceback.print_exc",
                "os.write",
            }
            assert not calls & writing, f"{path.name} writes to the terminal; let `screen` do it"
            assert not {call for call in calls if call.endswith(("stdout.write", "stderr.write"))}, path.name
