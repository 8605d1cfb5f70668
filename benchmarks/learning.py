"""What each loss teaches: digits learnt with its defaults and with the settings that its page recommends.

Each row is trained in two networks (see `benchmarks.digit_networks`) from three seeds. A sample is answered right if
the class that the loss looks at is the labelled one; one without an output spike has no answer.

    python -m benchmarks.learning                     # the whole table, in about ten minutes
    python -m benchmarks.learning --only 'Spike*'
    python -m benchmarks.learning --write             # into docs/loss-gallery.md
"""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

import lava_spikeloss
from benchmarks.digit_networks import DECAYS, EPOCHS, SEEDS, STEPS, LossOfOutput, Networks, Output, digits, train
from benchmarks.report import fill_page, table

__all__ = ["LESSONS", "Lesson", "Result", "Setting", "learn"]

NEEDED = 90.0  # per cent of the test set that each network answers right with a recommended setting
PAGE = Path(__file__).parents[1] / "docs/loss-gallery.md"


@dataclass(frozen=True)
class Setting:
    """Losses as they are written in Python, of what they look at: their sum is trained."""

    spikes: str = ""
    potentials: str = ""
    hidden: str = ""

    def __str__(self) -> str:
        parts = [(self.spikes, ""), (self.potentials, " of the potentials"), (self.hidden, " of the hidden spikes")]
        return " + ".join(f"`{text}`{of if text != self.only else ''}" for text, of in parts if text)

    @property
    def only(self) -> str:
        """The one loss, if there is one."""
        given = [text for text in (self.spikes, self.potentials, self.hidden) if text]
        return given[0] if len(given) == 1 else ""

    def build(self) -> dict[str, torch.nn.Module]:
        """The losses, each under the name of what it looks at."""
        return {name: eval(text, vars(lava_spikeloss)) for name, text in vars(self).items() if text}


@dataclass(frozen=True)
class Lesson:
    """One loss: its defaults, what its page recommends, how it is judged, and what it learns from.

    Attributes:
        judge: which classes an output answers, in :data:`JUDGES`.
        target: what it learns from, in :data:`TARGETS`.
    """

    name: str
    default: Setting
    recommended: Setting
    judge: str = "counts"
    target: str = "labels"


@dataclass(frozen=True)
class Result:
    """Of one network on the test set."""

    right: float  # per cent
    silent: float  # per cent of the samples that no output spikes for
    latency: float  # steps to the first output spike, of the samples that have one
    rate: float  # spikes of an output per step


Losses = Mapping[str, torch.nn.Module]
Judge = Callable[[Output, Losses, Output], torch.Tensor]
NOTHING = -1  # the answer of a sample without an output spike


def _if_any(answers: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
    return torch.where(spikes.flatten(1).any(1), answers, NOTHING)


def _counts(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    return _if_any(output.spikes.sum(-1).argmax(1), output.spikes)


def _first_spike(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    times = torch.where(output.spikes.bool().any(-1), output.spikes.argmax(-1), STEPS)
    return _if_any(times.argmin(1), output.spikes)


def _highest_potential(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    return output.potentials.amax(-1).argmax(1)


def _mean_potential(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    return output.potentials.mean(-1).argmax(1)


def _nearest(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    """The label of the training sample whose output is most similar by its cosine."""
    tested, known = (F.normalize(o.spikes.flatten(1)) for o in (output, trained))
    return _if_any(digits().labels[(tested @ known.T).argmax(1)], output.spikes)


def _local_readout(output: Output, losses: Losses, trained: Output) -> torch.Tensor:
    readout = losses["hidden"].get_buffer("readout")
    return (output.hidden.sum(-1) @ readout.T).argmax(1)


JUDGES: dict[str, Judge] = {
    "counts": _counts,
    "first spike": _first_spike,
    "highest potential": _highest_potential,
    "mean potential": _mean_potential,
    "nearest training sample": _nearest,
    "its own readout": _local_readout,
}


def _trains() -> torch.Tensor:
    """A spike of the labelled class in every third step, from the third one on."""
    trains = torch.zeros(len(digits().labels), 10, STEPS)
    trains[torch.arange(len(trains)), digits().labels, 2::3] = 1
    return trains


def _teacher() -> torch.Tensor:
    """The scores of logistic regression on the pixels."""
    from sklearn.linear_model import LogisticRegression

    pixels = digits().x.mean(1).numpy()
    teacher = LogisticRegression(max_iter=1000).fit(pixels, digits().labels.numpy())
    return torch.tensor(teacher.decision_function(pixels), dtype=torch.float32)


TARGETS: dict[str, Callable[[], torch.Tensor]] = {
    "labels": lambda: digits().labels,
    "trains": _trains,
    "teacher": _teacher,
}


WAKE = "0.1 * CountBoundsLoss(lower=4, per='layer')"
GENTLY_WAKE = "0.01 * CountBoundsLoss(lower=4, per='layer')"
SIMILARITIES = "SpikeSimilarityLoss() + 2 * SpikeSimilarityLoss('gaussian', 'mse', 3.0)"

LESSONS = (
    Lesson("SpikeRate", Setting("SpikeRate(0.2, 0.03)"), Setting("SpikeRate(0.5, 0.03)")),
    Lesson("SpikeMax", Setting("SpikeMax()"), Setting(f"SpikeMax(mode='softmax', scale={STEPS})")),
    Lesson(
        "SpikeMax, probability",
        Setting("SpikeMax()"),
        Setting(f"SpikeMax(reduction='mean') + {WAKE.replace('0.1', '0.03')}"),
    ),
    Lesson("SpikeMax, count", Setting("SpikeMax(mode='count')"), Setting("SpikeMax(mode='count')")),
    Lesson(
        "SpikeMoid", Setting("SpikeMoid()"), Setting(f"SpikeMoid(alpha=0.05, theta=0.2, reduction='mean') + {WAKE}")
    ),
    Lesson("CECountLoss", Setting("CECountLoss()"), Setting(f"CECountLoss() + {GENTLY_WAKE}")),
    Lesson("CERateLoss", Setting("CERateLoss()"), Setting("CERateLoss()")),
    Lesson("MSECountLoss", Setting("MSECountLoss()"), Setting("MSECountLoss(0.6, 0.05)")),
    Lesson(
        "RegionCountLoss",
        Setting("RegionCountLoss(6, 0.5, start=4)"),
        Setting(f"RegionCountLoss(6, 0.5, start=4, reduction='mean') + {GENTLY_WAKE}"),
    ),
    Lesson(
        "SpikeTime", Setting("SpikeTime()"), Setting(f"SpikeTime(reduction='mean') + {GENTLY_WAKE}"), target="trains"
    ),
    Lesson("FirstSpikeLoss", Setting("FirstSpikeLoss()"), Setting("FirstSpikeLoss(xi=2)"), "first spike"),
    Lesson("CETemporalLoss", Setting("CETemporalLoss()"), Setting("CETemporalLoss(temperature=2)"), "first spike"),
    Lesson("MSETemporalLoss", Setting("MSETemporalLoss()"), Setting("MSETemporalLoss(on_target=3)"), "first spike"),
    Lesson(
        "STCALoss",
        Setting(potentials="STCALoss(v_threshold=1.25)"),
        Setting(GENTLY_WAKE, "STCALoss(v_threshold=1.25, T_in=0, true_count=6, reduction='mean')"),
    ),
    Lesson("TETLoss", Setting("TETLoss()"), Setting("TETLoss()")),
    Lesson(
        "DECOLLELoss",
        Setting(hidden="DECOLLELoss(128, 10)"),
        Setting(hidden="DECOLLELoss(128, 10)"),
        "its own readout",
    ),
    Lesson(
        "CEMaxMembraneLoss",
        Setting(potentials="CEMaxMembraneLoss()"),
        Setting(GENTLY_WAKE, "CEMaxMembraneLoss()"),
        "highest potential",
    ),
    Lesson(
        "CEMembraneIntegralLoss",
        Setting(potentials="CEMembraneIntegralLoss()"),
        Setting(potentials="CEMembraneIntegralLoss()"),
        "mean potential",
    ),
    Lesson(
        "MSEMembraneLoss",
        Setting(potentials="MSEMembraneLoss()"),
        Setting(potentials="MSEMembraneLoss(on_target=2, off_target=-2)"),
        "mean potential",
    ),
    Lesson(
        "MembraneSuppressionLoss",
        Setting("CECountLoss()", "MembraneSuppressionLoss()"),
        Setting("CECountLoss()", "0.1 * MembraneSuppressionLoss()"),
    ),
    Lesson(
        "InformationMaximizationLoss",
        Setting("CECountLoss()"),
        Setting("CECountLoss()", "0.01 * InformationMaximizationLoss(1.25)"),
    ),
    Lesson(
        "SpikeSimilarityLoss",
        Setting("SpikeSimilarityLoss()"),
        Setting(f"{SIMILARITIES} + 0.001 * CountBoundsLoss(lower=8, per='layer')"),
        "nearest training sample",
    ),
    Lesson(
        "DistillationLoss",
        Setting("DistillationLoss()"),
        Setting("DistillationLoss(tau=0.1)"),
        target="teacher",
    ),
)


def learn(lesson: Lesson, setting: Setting, networks: Networks, epochs: int = EPOCHS) -> list[Result]:
    """Train networks with a setting, each with losses of its own, and test them."""
    target = TARGETS[lesson.target]()
    losses = []
    for _, seed in networks.names:
        torch.manual_seed(seed)  # of the random readouts
        losses.append(setting.build())
    train([_of_output(each, target) for each in losses], networks, epochs)
    tested, trained = networks.test(digits().test_x), networks.test(digits().x)
    judge = JUDGES[lesson.judge]
    return [
        _result(tested.of(index), judge(tested.of(index), each, trained.of(index))) for index, each in enumerate(losses)
    ]


def _of_output(losses: Losses, target: torch.Tensor) -> LossOfOutput:
    def loss(output: Output, samples: torch.Tensor) -> torch.Tensor:
        values = [one(getattr(output, name), target[samples]) for name, one in losses.items()]
        total: torch.Tensor = sum(values[1:], values[0])
        return total

    return loss


def _result(output: Output, answers: torch.Tensor) -> Result:
    fired = output.spikes.amax(1)
    spoke = fired.any(-1)
    return Result(
        right=100 * (answers == digits().test_labels).float().mean().item(),
        silent=100 * (~spoke).float().mean().item(),
        latency=fired[spoke].argmax(-1).float().mean().item(),
        rate=output.spikes.mean().item(),
    )


def _cells(results: list[Result]) -> list[str]:
    """Mean over the seeds; of the right answers the lowest, too."""
    right = [result.right for result in results]
    latency = statistics.mean(result.latency for result in results)
    return [
        f"{statistics.mean(right):.1f} ({min(right):.1f})",
        f"{statistics.mean(result.silent for result in results):.1f}",
        "-" if latency != latency else f"{latency:.1f}",
        f"{statistics.mean(result.rate for result in results):.3f}",
    ]


def _row(work: tuple[Lesson, str, Setting]) -> tuple[list[str], float]:
    """The cells of a setting in all networks, and the mean of right answers in the worse network."""
    torch.set_num_threads(1)
    (lesson, name, setting), networks = work, Networks()
    results = learn(lesson, setting, networks)
    pairs = list(zip(networks.names, results, strict=True))
    each = [[result for (decays, _), result in pairs if decays == pair] for pair in DECAYS]
    cells = [cell for of_network in each for cell in _cells(of_network)]
    worst = min(statistics.mean(result.right for result in of_network) for of_network in each)
    return [f"`{lesson.name}`, by {lesson.judge}", f"{name}: {setting}", *cells], worst


def _work(pattern: str) -> list[tuple[Lesson, str, Setting]]:
    """The settings of lessons with such a name; defaults that are recommended once."""
    work = []
    for lesson in (lesson for lesson in LESSONS if fnmatch.fnmatchcase(lesson.name, pattern)):
        settings = {lesson.default: "default", lesson.recommended: "recommended"}
        both = "default, recommended"
        work += [(lesson, both if len(settings) == 1 else name, setting) for setting, name in settings.items()]
    return work


def main() -> None:
    """Print the table, or write it into the gallery."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="*", metavar="PATTERN", help="train only losses with such a name: 'Spike*'")
    parser.add_argument("--jobs", type=int, default=1, help="rows trained at a time")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    arguments = parser.parse_args()
    work, rows, last = _work(arguments.only), [], {}
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for (lesson, _, _), (row, worst) in zip(work, pool.imap(_row, work), strict=True):
            print(" | ".join(row), flush=True)
            rows.append(row)
            last[lesson.name] = worst - NEEDED
    missed = [name for name, above in last.items() if above < 0]
    head = ["loss, answers", "setting"]
    head += [f"{what}, {a}/{b}" for a, b in DECAYS for what in ("right, %", "silent, %", "latency", "rate")]
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    section = f"{table(head, rows)}\n`python -m benchmarks.learning`, seeds {SEEDS}, {EPOCHS} epochs; {versions}.\n"
    print(section)
    if arguments.write:
        PAGE.write_text(fill_page(PAGE.read_text(), "learning", section))
    if missed:
        raise SystemExit(f"Less than needed with the recommended setting: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
