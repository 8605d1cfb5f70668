"""``python -m netx_export``, and where the command ``netx-export`` starts."""

from __future__ import annotations

from netx_export.command.interrupting import end_when_interrupted

__all__ = ["main"]


def main() -> None:
    """Run the command, which on Ctrl-C ends without a traceback also while it is being imported."""
    end_when_interrupted()
    from netx_export.command.cli import main as run

    run()


if __name__ == "__main__":
    main()
