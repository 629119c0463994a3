"""What to try next, and when to stop.

`driver` takes candidates through their lives (`candidate_run`), `setbacks` says what follows when something outside goes wrong,
`agenda` says which comes next, `sampler` asks Optuna, `bounds` and `early_stopping` tell which trainings can't pay, `confirmation`
measures the front again, `progress` is what a view is told, and `views` are those that come with autoopt.
"""
