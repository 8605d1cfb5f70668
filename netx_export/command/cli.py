"""The command ``netx-export``."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from netx_export.command.interrupting import INTERRUPTED, clean_up_when_interrupted
from netx_export.errors import NetxExportError
from netx_export.printable import printable

if TYPE_CHECKING:  # torch takes seconds to import; --help should not
    import numpy.typing as npt

    from netx_export.checking import Finding
    from netx_export.exporting import ExportResult
    from netx_export.verification.verify import VerificationReport

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_console = Console()
_errors = Console(stderr=True)

OK, FAILED, COULD_NOT_RUN, ENDED_BY_USER = 0, 1, 2, 130
# What the functions that the commands call name in their messages, and how a user of the command knows it. Each text is
# so long that it is no part of a path in the message by chance.
_OPTIONS = {
    "argument `net`": "the network of --model",
    "argument `sample`": "`spikes` of --data",
    "argument `spikes`": "`spikes` of --data",
    "argument `labels`": "`labels`",
    "argument `recorded`": "--recorded",
    "argument `timeout`": "--timeout",
    "`timeout`": "--timeout",
    "`tolerance`": "--tolerance",
    "If it is near enough, tolerance=": "If it is near enough, --tolerance=",
    "`lava_samples`": "--lava-samples",
    "`allow_silent`": "--allow-silent",
    "`lava_python`": "--lava-python",
    "or name them in allow_silent=": "or name each with --allow-silent: ",
    "`delay_shift=False`": "--no-delay-shift",
    "Use backend='reference'": "Leave Lava out, in simulate with --backend reference, in verify with --lava-samples 0",
    "The sample is no input of this network": "The data is no input of this network",
    "makes of the sample for its first block": "makes of the data for its first block",
    "shows on the whole sample, and did not on its first few": "shows on all of the data, and did not on its first few",
    "nothing but zeros on the sample, so nothing is proved": "nothing but zeros on the data, so nothing is proved",
    "Give a sample of real data on which every": "Give --data with real samples on which every",
}


class Backend(str, Enum):
    """What to simulate on."""

    reference = "reference"
    lava = "lava"


class Target(str, Enum):
    """The chip whose limits apply."""

    loihi1 = "loihi1"
    loihi2 = "loihi2"


NetFile = Annotated[Path, typer.Argument(help="A netx HDF5 file.")]
NewNetFile = Annotated[Path, typer.Argument(help="The netx HDF5 file to write.")]
Model = Annotated[str, typer.Option(help="module:factory, which makes the trained network.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="The network's state_dict, as torch.save writes it, or a checkpoint of lava_spikeloss.training."),
]
LavaPython = Annotated[
    str | None,
    typer.Option(help="The Python 3.10 that runs Lava, or its environment, if not the one that is found."),
]
LavaWorkers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes of Lava that share the samples; if not given, one per core if worth it."),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds that Lava may take; if not given, as the work needs.")]
DataFile = Annotated[Path, typer.Option(help="A .npz file with `spikes` (N, C, ..., T) and, if known, `labels`.")]

SpikeExp = Annotated[int, typer.Option(min=0, max=6, help="Of sigma-delta networks: netx's option of this name.")]

DelayShift = Annotated[
    bool | None, typer.Option(help="Whether SLAYER delays each block's output by a step, if not as the file says.")
]


def _number_or_auto(text: str) -> int | str:
    """What --lava-samples says."""
    if text == "auto":
        return text
    if text.isdecimal():
        return int(text)
    raise typer.BadParameter(f"Expected a number of at least 0, or auto, but got {text!r}.")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"netx-export {version('lava-spikeloss')}")
        raise typer.Exit(OK)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Export trained SLAYER networks to netx and prove that they run as they were trained."""


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Directory for digits.net, report.json and report.html.")]) -> None:
    """Train handwritten digits, export them, run them on Lava and verify every spike."""
    from netx_export.command.demo import run_demo

    clean_up_when_interrupted()
    report = run_demo(out, _console)
    raise typer.Exit(OK if report.passed else FAILED)


@app.command()
def lava_env(
    directory: Annotated[
        Path | None, typer.Argument(help="Where to make it; if not given, among the user's own data.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="A Python 3.10; if not given, one that is found on the PATH, by uv or by pyenv.")
    ] = None,
    torch: Annotated[
        str | None, typer.Option(help="What pip installs as torch: a requirement, as torch==2.3.1, or a file.")
    ] = None,
    torch_index: Annotated[
        str | None, typer.Option(help="A package index with torch's builds for the CPU, from which torch is taken.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make an environment of Lava's own, for a Python that Lava does not run on; simulate and verify find it."""
    from netx_export.command.lava_env import default_directory, make_lava_env

    clean_up_when_interrupted()
    console = _errors if as_json else _console
    made = make_lava_env(
        directory or default_directory(),
        lambda sentence: console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True),
        python=python,
        torch=torch,
        torch_index=torch_index,
    )
    if as_json:
        print(json.dumps(made, indent=1))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Print what is installed, what works and what to do: 0 unless something that is there does not work."""
    from netx_export.command.doctor import examine_everything

    clean_up_when_interrupted()
    findings = []
    for found in examine_everything():
        finding = dataclasses.replace(found, found=_in_words_of_the_command(found.found))
        findings.append(finding)
        if not as_json:
            advice = f". {finding.advice}" if finding.advice else ""
            print(printable(f"{finding.state:7}  {finding.name}: {finding.found}{advice}"), flush=True)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    raise typer.Exit(FAILED if any(finding.state == "fails" for finding in findings) else OK)


@app.command()
def export(
    file: NewNetFile,
    model: Model,
    data: DataFile,
    checkpoint: Checkpoint = None,
    target: Annotated[Target, typer.Option(help="The chip whose limits apply.")] = Target.loihi2,
    allow_silent: Annotated[
        list[str] | None,
        typer.Option(help="A layer, or `output`, that may be silent on the data; the file is then not proved."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="How far sigma-delta layers may deviate where float32 rounds; the file is then not proved."),
    ] = None,
) -> None:
    """Write a trained network to a file that is proved, on the data, to run as the network does: else 2, and no file.

    The network is that of --model, with the parameters in --checkpoint unless the factory loads them itself.
    """
    from netx_export.command.model import load_model, no_exit
    from netx_export.exporting import export as write
    from netx_export.file.npz import load_spikes
    from netx_export.provenance import place_texts
    from netx_export.simulation.inputs import sample_tensor

    _refuse_to_overwrite(file, data, checkpoint)
    spikes, _ = load_spikes(data, least_axes=2)
    with redirect_stdout(sys.stderr), no_exit():
        net = load_model(model, checkpoint)
        clean_up_when_interrupted()
        result = write(
            net,
            file,
            sample_tensor(spikes),
            target=target.value,
            allow_silent=allow_silent or (),
            tolerance=tolerance,
        )
    print(result.description.table(_width()))
    _print_findings(result.findings)
    print(printable(f"Wrote {file}: {_proof(result)}, on {len(spikes)} samples."))
    for end, place in place_texts(result.begins_inside, result.ends_inside).items():
        print(f"It {end} {place}.")


def _refuse_to_overwrite(written: Path, *read: Path | None) -> None:
    """Refuse to write where the command reads, as after a slip in the order of its arguments."""
    if written.exists() and any(path is not None and path.exists() and path.samefile(written) for path in read):
        raise NetxExportError(f"{written}: this file is read, and would be written over. Choose another path for it.")


def _width() -> int | None:
    """The width of the terminal; None for a file or another program, for which each layer stays in one line."""
    return _console.width if _console.is_terminal else None


def _proof(result: ExportResult) -> str:
    if result.proved:
        return "proved equal to the network"
    if result.silent:
        return "not proved"
    return f"within {max(result.deviations.values()):g} of the network, not proved equal"


@app.command()
def inspect(file: NetFile) -> None:
    """Print the network in a file as a table."""
    from netx_export.file.netx import read

    description = read(file)
    print(description.table(_width()))
    for key, value in description.metadata.items():
        print(printable(f"{key}: {value}"))


@app.command()
def check(
    file: NetFile,
    target: Annotated[Target, typer.Option(help="The chip whose limits apply.")] = Target.loihi2,
    data: Annotated[
        Path | None, typer.Option(help="A .npz file with `spikes` on which to look for numbers that are too large.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Print everything in a file that does not fit a chip, or that the stock loader would change or ignore."""
    from netx_export.checking import check as find
    from netx_export.file.npz import load_spikes

    findings = find(file, target.value, None if data is None else load_spikes(data)[0])
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1, default=str))
    else:
        _print_findings(findings)
        print(f"{len(findings)} findings for {target.value}.")
    raise typer.Exit(FAILED if any(finding.level == "error" for finding in findings) else OK)


def _print_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        place = finding.layer or "network"
        found = f"{finding.value}, limit {finding.limit}"
        print(printable(f"{finding.level}: {place}: {finding.rule}: {found}. {finding.hint}"))


@app.command()
def simulate(
    file: NetFile,
    data: DataFile,
    out: Annotated[Path, typer.Option(help="The .npz file to write: `output`, and each layer under its name.")],
    backend: Annotated[
        Backend, typer.Option(help="Our own simulator, or the stock loader on Lava.")
    ] = Backend.reference,
    delay_shift: DelayShift = None,
    spike_exp: SpikeExp = 6,
    timeout: Timeout = None,
    lava_python: LavaPython = None,
    lava_workers: LavaWorkers = None,
) -> None:
    """Write the spikes of a file's network on some data."""
    from netx_export.file.npz import load_spikes, save_simulation
    from netx_export.simulation.simulate import simulate as run

    _refuse_to_overwrite(out, file, data)
    spikes, _ = load_spikes(data)
    clean_up_when_interrupted()
    simulation = run(
        file,
        spikes,
        backend=backend.value,
        delay_shift=delay_shift,
        spike_exp=spike_exp,
        timeout=timeout,
        progress=_errors.is_terminal,
        lava_python=lava_python,
        lava_workers=lava_workers,
    )
    save_simulation(out, simulation)
    print(printable(f"Wrote the spikes of {len(simulation.layers)} layers in {len(spikes)} samples to {out}."))


@app.command()
def verify(
    file: NetFile,
    data: DataFile,
    model: Annotated[str | None, typer.Option(help="module:factory, which makes the trained network.")] = None,
    checkpoint: Checkpoint = None,
    recorded: Annotated[
        Path | None, typer.Option(help="Spikes to compare with instead of Lava's: a .npz as `simulate` writes it.")
    ] = None,
    lava_samples: Annotated[
        Any,
        typer.Option(
            metavar="NUMBER|auto",
            parser=_number_or_auto,
            help="Samples to run on Lava: a number, 0 leaves it out, or auto, at most 32 that fit into about 60 s.",
        ),
    ] = "auto",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[LAYER:]STATISTIC=LIMIT",
            help="What is still accepted, as rate=0.001, or output:accuracy=0.01; may be given several times.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="For the draw of the samples to run on Lava.")] = 0,
    timeout: Timeout = None,
    lava_python: LavaPython = None,
    lava_workers: LavaWorkers = None,
    stop_early: Annotated[bool, typer.Option("--stop-early", help="End at the first difference.")] = False,
    delay_shift: DelayShift = None,
    spike_exp: SpikeExp = 6,
    report: Annotated[Path | None, typer.Option(help="Directory for report.json and report.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Prove that a file's network runs as it was trained: 0 if it does, 1 if not, 2 if that could not be tried.

    With a model, SLAYER is compared with the reference simulator on all samples; then the reference with Lava on some,
    or with a recording. Under torchrun each process takes its share.
    """
    if checkpoint is not None and model is None:
        raise typer.BadParameter("--checkpoint needs --model, which says what it is a checkpoint of.")
    if model is None and recorded is None and lava_samples == 0:
        raise typer.BadParameter("Nothing to compare: give --model or --recorded, or let --lava-samples be at least 1.")
    from netx_export.command.model import joined_ranks, load_model, no_exit
    from netx_export.command.tolerances import read_tolerances
    from netx_export.verification.verify import verify as run

    accepted = read_tolerances(tolerance or [])

    spikes, labels = _load_data(file, data, network=model is not None)
    # What the user's modules print on import does not belong between the lines of a JSON report.
    with redirect_stdout(sys.stderr), no_exit(), joined_ranks() as rank:
        net = None if model is None else load_model(model, checkpoint)
        clean_up_when_interrupted()
        result = run(
            net,
            file,
            spikes,
            labels,
            lava_samples=lava_samples,
            recorded=recorded,
            tolerance=accepted,
            seed=seed,
            timeout=timeout,
            stop_early=stop_early,
            delay_shift=delay_shift,
            spike_exp=spike_exp,
            progress=_errors.is_terminal,
            lava_python=lava_python,
            lava_workers=lava_workers,
        )
    if rank == 0:
        command = shlex.join(["netx-export", *sys.argv[1:]])
        _tell(dataclasses.replace(result, run={**result.run, "command": command}), report, as_json)
    raise typer.Exit(OK if result.passed else FAILED)


def _load_data(file: Path, data: Path, *, network: bool) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Spikes and labels. Unless a network is given, which may change the spikes first, they have to fit the file."""
    from netx_export.file.netx import read
    from netx_export.file.npz import load_spikes
    from netx_export.simulation.inputs import check_input
    from netx_export.verification.arguments import check_labels, number_of_outputs

    description = read(file)
    adds_steps = network and "begins" in description.metadata  # which a forward may do before its first block
    spikes, labels = load_spikes(data, least_axes=2 if adds_steps else 3)
    if not network:
        check_input(description, spikes)
    try:
        check_labels(labels, len(spikes), number_of_outputs(description))
    except ValueError as error:
        raise NetxExportError(f"{data}: {error}") from error
    return spikes, labels


def _tell(result: VerificationReport, directory: Path | None, as_json: bool) -> None:
    from netx_export.verification.report import print_report, save_report

    try:
        if directory is not None:
            save_report(result.to_dict(), directory)
    finally:  # a report that cannot be written is an error, but the verdict is printed all the same
        if as_json:
            print(result.to_json())
        else:
            print_report(result.to_dict(), _console)


def main() -> None:
    """Run the command: exit status 0 for a pass, 1 for a fail, 2 if it could not run, 130 if it was interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal does not know is printed as an escape
            stream.reconfigure(errors="backslashreplace")
    status = _run()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and _discard_if_unread(stream) and stream is sys.__stdout__:
            status = COULD_NOT_RUN
    sys.exit(status)


def _discard_if_unread(stream: IO[str]) -> bool:
    """Whether nobody reads a stream any more, as after ``| head``; if so, Python does not write its rest at exit."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _run() -> int:
    """Run the command; whatever goes wrong is told in one sentence, without a traceback."""
    try:
        status = app(standalone_mode=False, prog_name="netx-export")
    except NetxExportError as error:
        return _refuse(_in_words_of_the_command(str(error)))
    except (KeyboardInterrupt, typer.Abort):
        return _refuse(INTERRUPTED, ENDED_BY_USER)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # click and rich end a process so if nobody reads its output
            return COULD_NOT_RUN
        if end.code is None or isinstance(end.code, int):  # typer ends a shell completion so
            return end.code or OK
        return _refuse(str(end.code))  # `sys.exit` with a text is a failure to Python too
    except Exception as error:
        if hasattr(error, "show"):  # typer's error for a wrong option, whose class is not the same in all versions
            error.show()
            return COULD_NOT_RUN
        return _refuse(_in_words_of_the_command(f"{type(error).__name__}: {' '.join(str(error).split())}"))
    if status == ENDED_BY_USER:  # typer's own way of saying it
        return _refuse(INTERRUPTED, ENDED_BY_USER)
    return status if isinstance(status, int) else OK


def _in_words_of_the_command(message: str) -> str:
    """The message of a function, which names its arguments, with the options that stand for them."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


def _refuse(message: str, status: int = COULD_NOT_RUN) -> int:
    # Where nobody reads the errors, rich ends the process, with the exit status of a network that failed.
    with suppress(SystemExit):
        _errors.print("error: ", style="bold red", end="")
        _errors.print(printable(message), markup=False, highlight=False, soft_wrap=True)
    return status


if __name__ == "__main__":
    main()
