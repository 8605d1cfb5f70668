"""The command ``netx-export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from netx_export.errors import NetxExportError
from netx_export.hdf5 import read

__all__ = ["main"]

app = typer.Typer(
    help="Export trained SLAYER networks to netx and prove that they run as they were trained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_console = Console()
_errors = Console(stderr=True)

OK, FAILED, COULD_NOT_RUN = 0, 1, 2


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Directory for digits.net, report.json and report.html.")]) -> None:
    """Train handwritten digits, export them, run them on Lava and verify every spike."""
    from netx_export.demo import run_demo  # torch takes seconds to import; --help should not

    report = run_demo(out, _console)
    raise typer.Exit(OK if report.passed else FAILED)


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="A netx HDF5 file.")]) -> None:
    """Print the network in a file as a table."""
    description = read(file)
    print(description)
    for key, value in description.metadata.items():
        print(f"{key}: {value}")


def main() -> None:
    """Run the command: exit status 0 for a pass, 1 for a fail, 2 if it could not run."""
    try:
        app()
    except NetxExportError as error:
        _errors.print(f"[bold red]error[/]: {error}", highlight=False, soft_wrap=True)
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
