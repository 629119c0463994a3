"""`python -m autoopt`."""

from autoopt.cli.commands import main

if __name__ == "__main__":
    main(prog_name="autoopt")
