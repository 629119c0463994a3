"""The task of `studies/keywords_dscnn`; needs data beside the repository, see there."""

import runpy
from pathlib import Path

task = runpy.run_path(str(Path(__file__).resolve().parents[3] / "studies" / "keywords_dscnn" / "task.py"))["task"]
