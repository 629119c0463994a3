"""What a program calls, and the command line alike: a module a verb.

`run` searches, `check` tries everything once before a night, `measure_file` measures a file by itself, `init` writes a study,
`doctor` looks at the machine, `saved_study` reads results back and `live_study` watches them grow.
"""
