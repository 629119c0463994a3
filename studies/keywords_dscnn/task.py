"""DS-CNN of MLPerf Tiny (Apache-2.0) on what there is of its keyword spotting data: 599 items.

Reads `models/kws_ref_model` and `mlperf_kws01_dev.npz` (x_mfcc_int8, y) from the folder named by AUTOOPT_DATA; by default
`shared/data` beside the repository.
"""

import os
from pathlib import Path

import numpy as np

import autoopt

DATA = Path(os.environ.get("AUTOOPT_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
SCALE, ZERO = 0.5847029, 83
"""Of the benchmark's int8 inputs."""


def task() -> autoopt.Task:
    if not DATA.is_dir():
        raise autoopt.ConfigError(
            f"{DATA}: no such folder; set AUTOOPT_DATA to one with mlperf_kws01_dev.npz and models/"
        )
    with np.load(DATA / "mlperf_kws01_dev.npz", allow_pickle=False) as arrays:
        x = ((arrays["x_mfcc_int8"].astype(np.float32)) - ZERO) * SCALE
        y = arrays["y"].reshape(-1).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    train, validation, test = order[:299], order[299:449], order[449:]
    return autoopt.Task(
        model=DATA / "models" / "kws_ref_model",
        train=(x[train], y[train]),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
    )
