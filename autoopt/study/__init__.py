"""A study's folder: its configuration, its records, and what it is judged by.

`folder` says where things are, `records` reads and seals what was found, `objectives` settles metrics and budgets once the task's
own metric is known, and `space_fitting` makes a space fit a model.
"""
