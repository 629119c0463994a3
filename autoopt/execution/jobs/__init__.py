"""What a job does.

`table` has all kinds of jobs by name, `context` what each may see, and every other module the functions of one kind of work.
"""

from autoopt.execution.jobs.context import Context as Context
from autoopt.execution.jobs.table import JOBS as JOBS
