"""The command line: one thin function a command. Results go to stdout, progress to stderr.

Each module that is imported here adds its commands to `main`.
"""

from autoopt.cli import inspecting, reading, searching, tidying  # noqa: F401 - for their commands
from autoopt.cli.framework import main as main
