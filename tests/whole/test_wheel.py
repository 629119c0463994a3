"""The wheel alone, away from the checkout: what it holds is enough to write a study, to run it, and to draw its page."""

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import builders
import numpy as np
import pytest
import tinystudy

SPACE = "{scheme: [float32]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel: pip does no more with one that has no scripts of its own to build."""
    place = tmp_path_factory.mktemp("wheel")
    sources = ("autoopt", "search_spaces", "pyproject.toml", "README.md", "LICENSE")
    for name in sources:
        source, copy = builders.ROOT / name, place / "checkout" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=place / "checkout", check=True, capture_output=True)
    [wheel] = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "installed")
    shutil.rmtree(place / "checkout")
    return place / "installed"


def autoopt(installed: Path, folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(installed), *site.getsitepackages()])
    # Paths to a checkout that an editable installation has left are read by `site` alone, which -S leaves out.
    command = [sys.executable, "-S", "-m", "autoopt", *arguments]
    environment = tinystudy.ENVIRONMENT | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_init_and_run_work_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """It trains nothing: one file is made of a trained model, for that runs code of every room that reads its own files."""
    shutil.copy(tinystudy.BASELINE, tmp_path / "model.h5")
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(64, 8, 8, 1)).astype(np.float32), "y_train": np.arange(64) % 4}
    np.savez(tmp_path / "data.npz", **arrays)
    assert "mobile" in autoopt(installed, tmp_path, "init", "--help")
    autoopt(installed, tmp_path, "init", "study", "--model", "model.h5", "--data", "data.npz", "--space", "mobile")
    settings = (tmp_path / "study" / "study.yaml").read_text()
    assert "space: mobile" in settings
    plain = settings.replace("space: mobile", f"measuring: quick\nconfirm: false\nspace: {SPACE}\n#")
    (tmp_path / "study" / "study.yaml").write_text(plain)
    autoopt(installed, tmp_path, "run", "study", "--plain")
    assert "<style>" in (tmp_path / "study" / "out" / "report.html").read_text()
    assert (tmp_path / "study" / "out" / "pick" / "model.tflite").stat().st_size > 0
