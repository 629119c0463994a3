"""What to try next, and when to stop.

`driver` takes candidates through their lives (`candidate_run`), `agenda` says which comes next, `sampler` asks Optuna, `bounds`
and `early_stopping` tell which trainings can't pay, and `confirmation` measures the front again.
"""
