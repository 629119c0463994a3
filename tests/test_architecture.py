"""The structure that keeps the package small to hold in mind and quick to start."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import builders
import pytest

PACKAGE = builders.ROOT / "autoopt"


def modules() -> dict[str, Path]:
    """Every module of the package, by its name below it."""
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_rooms_import_only_from_those_below_them() -> None:
    """`pyproject.toml` has the rooms in order, and which of them know TensorFlow, Optuna, Dask and plotly."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=builders.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("call", "readers"),
    [
        ("InitFromPackedBuf", {"models.flatbuffer"}),
        ("convert_object_to_bytearray", {"models.flatbuffer"}),
        ("get_signature_list", {"models.file_ends", "reporting.bundle.replay"}),  # copied to users, it stands alone
        ("get_signature_runner", {"models.file_ends", "reporting.bundle.replay"}),
    ],
)
def test_one_module_reads_what_a_file_holds(call: str, readers: set[str]) -> None:
    assert {name for name, path in modules().items() if f".{call}(" in path.read_text()} == readers


@pytest.mark.parametrize(
    "code",
    [
        "import autoopt",
        "import autoopt.cli.commands",
        "import autoopt.api.saved_study",
        "from autoopt import Recipe, Results, load",
    ],
)
def test_starting_loads_nothing_heavy(code: str) -> None:
    heavy = ["tensorflow", "tf_keras", "optuna", "distributed", "dash", "pandas", "plotly", "scipy"]
    check = f"import sys; {code}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_module_outgrows_a_head() -> None:
    sizes = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_every_public_name_can_be_had() -> None:
    import autoopt

    for name in autoopt.__all__:
        assert getattr(autoopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = autoopt.nothing


WRITERS = re.compile(r"(system\.)?(screen|isolation)|.*bundle\..*|targets\..*|(execution\.)?job_child")
"""Those that write: one for all, programs of their own in bundles and on targets, and processes whose output goes to a log."""
WRITING = {"print", "click.echo", "click.secho", "click.prompt", "click.confirm", "traceback.print_exc", "os.write"}


def test_one_module_writes_to_the_terminal() -> None:
    """Names of other people would steer it otherwise."""
    for name, path in modules().items():
        if WRITERS.fullmatch(name):
            continue
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}
        assert not calls & WRITING, f"{name} writes to the terminal; let `screen` do it"
        assert not {call for call in calls if call.endswith(("stdout.write", "stderr.write"))}, name


BROAD = {
    "errors": "`retold`, which turns what foreign code raises into one of our errors",
    "execution.job_child": "the job boundary, which records what it catches",
    "system.isolation": "the answer of a process for its parent, which raises it again",
    "reporting.bundle.own_files": "copied out to bundles, where nothing of autoopt is",
    "api.ending": "what is told of a run's end, which must not stand in the place of how it ended",
    "search.views": "what a person looks at, which may be gone without a search having to stop",
    "execution.translation": "what is done ahead for jobs, and done by the job that needs it if it fails",
    "execution.dask_engine": "a cluster that is gone already, when it is told to stop",
}
"""Modules that may catch whatever is raised, and what for."""


def test_broad_nets_stand_in_few_places() -> None:
    """A net that is wider than what is meant hides faults of our own; `errors.retold` is the one for foreign code."""
    for name, path in modules().items():
        broad = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if _is_broad(node)]
        assert broad or name not in BROAD, f"{name} has no need to stand in BROAD any more"
        assert not broad or name in BROAD, f"{name} catches whatever is raised; use `errors.retold`, or name the kinds"


def _is_broad(node: ast.AST) -> bool:
    """Whether a part of a program catches whatever is raised, and doesn't raise it again as it is."""
    if isinstance(node, ast.ExceptHandler):
        return _whatever(node.type) and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    suppresses = isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress"
    return suppresses and any(map(_whatever, node.args))


def _whatever(kind: ast.expr | None) -> bool:
    """Whether a kind of error, or one of several, is any."""
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or ast.unparse(one) in ("Exception", "BaseException") for one in kinds)


INTERNALS = {
    "models.keras_internals": "Keras's and tfmot's",
    "targets.tflm_runner": "LiteRT's list of operators",
    "reporting.bundle.replay": "likewise, copied out to bundles",
    "search.sampler": "Optuna's number of a trial in its storage",
    "execution.starting": "multiprocessing's server that jobs are forked from",
}
"""Modules that may use what libraries give under no public name, and what that is."""
PRIVATE = re.compile(r"_(?!_)")
PUBLIC = re.compile(r"os\._exit|super\(\)\..*|.*\._repr_\w+_")
"""Documented in spite of its underscore: the end of a process, what a subclass overrides, and how notebooks show a value."""


def test_what_libraries_keep_to_themselves_is_used_in_few_places() -> None:
    """A new version of a library may move such a name; then one module a library is to be mended."""
    for name, path in modules().items():
        private = _private_names(ast.parse(path.read_text()))
        assert private or name not in INTERNALS, f"{name} has no need to stand among INTERNALS any more"
        assert not private or name in INTERNALS, (
            f"{name} uses {', '.join(private)}; use a public name, or put a function into one of {', '.join(INTERNALS)}"
        )


HIDDEN = re.compile(r"(tf_keras|keras)\.src\b|(tensorflow|tensorflow_model_optimization)\.python\b")
"""Modules of libraries that their public names stand for."""


def test_modules_of_libraries_that_are_not_public_are_imported_in_one_place_a_library() -> None:
    for_them = {name for name, path in modules().items() if any(map(HIDDEN.match, imported(path)))}
    assert for_them == {"models.keras_internals", "compression.tfmot_internals"}


def _private_names(tree: ast.Module) -> list[str]:
    """What is asked of others than the object itself under a private name: as an attribute, or by name with `getattr`."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and PRIVATE.match(node.attr)]
    asked = [ast.unparse(node) for node in attributes if ast.unparse(node.value) not in ("self", "cls")]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 1]
    by_name = [node for node in calls if ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr")]
    asked += [ast.unparse(node) for node in by_name if PRIVATE.match(_literal(node.args[1]))]
    return [one for one in asked if not PUBLIC.fullmatch(one)]


def _literal(node: ast.expr) -> str:
    """What a text begins with, where that stands in the program."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return str(first.value) if isinstance(first, ast.Constant) else ""
