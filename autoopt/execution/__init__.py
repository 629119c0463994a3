"""Jobs, and where they run.

`job_graph` plans a recipe as a chain of jobs, `jobs` has what each of them does, `job_process` runs one in a process of its own,
`dask_engine` spreads them over slots or a cluster, and `artifact_store` keeps what they made.
"""
