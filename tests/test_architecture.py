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
