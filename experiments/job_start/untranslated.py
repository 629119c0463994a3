"""What a server of jobs imports in place of autoopt's own module, to be as it was: nothing translated, garbage looked for."""

import gc

from autoopt.execution import translation

translation.prepare = lambda: None
gc.disable = lambda: None

import autoopt.execution.forkserver_preload  # noqa: E402, F401
