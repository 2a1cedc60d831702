"""`facespace verify`: do two photos show the same person?"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.models.matching import Verdict

DIFFERENT = 1
MOST_SIMILAR = 1 + 1e-6
"""Cosines end at 1, but for their rounding."""


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(verify)


def verify(
    photo_a: Annotated[Path, typer.Argument(help="A photo with one face.")],
    photo_b: Annotated[Path, typer.Argument(help="Another.")],
    model: options.Model = "compact",
    threshold: Annotated[float | None, typer.Option(help="Least similarity of the same person.")] = None,
    fmr: Annotated[float | None, typer.Option(help="Take the card's threshold at this false match rate.")] = None,
    policy: Annotated[options.Policy, typer.Option(help="Which face to take where there are several.")] = (
        options.Policy.refuse
    ),
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    channels: options.ChannelsOption = None,
    mean: options.Mean = None,
    std: options.Std = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    commercial: options.Commercial = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Say whether two photos show the same person: exit status 0 the same, 1 different people."""
    from facespace.models import matching

    embedder = options.open_embedder(
        model, threads=threads, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    if threshold is not None and embedder.card.group_aware is None and abs(threshold) > MOST_SIMILAR:
        raise UsageError(f"{threshold:g} is no threshold: a cosine lies between -1 and 1", hint="--threshold 0.4")
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    verdict = matching.verify(photo_a, photo_b, embedder, finder, threshold=threshold, fmr=fmr, policy=policy.value)
    if json:
        shell.print_json({**verdict.as_json(), "device": embedder.device, "threads": embedder.threads})
    else:
        typer.echo(sentence(verdict))
        if verdict.at == matching.UNCALIBRATED.at and not quiet:
            shell.say(f"Note: the card of {embedder.name} states no operating point; {verdict.threshold} is a default.")
        if verdict.other_detector and not quiet:
            used = verdict.faces[0].source
            shell.say(f"Note: calibrated on faces by {verdict.other_detector}, used with {used}: rates may differ.")
    if not verdict.same:
        raise typer.Exit(DIFFERENT)


def sentence(verdict: "Verdict") -> str:
    """A verdict in words, with as many digits as the decision needs."""
    who, sign = ("Same person", ">=") if verdict.same else ("Different people", "<")
    digits = 2
    while digits < 6 and f"{verdict.similarity:.{digits}f}" == f"{verdict.threshold:.{digits}f}":
        digits += 1  # so that a narrow decision can be followed
    said = f"similarity {verdict.similarity:.{digits}f} {sign} {verdict.threshold:.{digits}f}, {verdict.at}"
    return f"{who} ({said}{likelihood(verdict.log_likelihood_ratio)})"


def likelihood(ratio: float | None) -> str:
    """A log-likelihood ratio in words, two digits long; nothing where there is none."""
    if ratio is None:
        return ""
    times = float(f"{math.exp(abs(ratio)):.2g}")
    return f", {times:,.{0 if times >= 10 else 1}f} times likelier of {'one person' if ratio >= 0 else 'two people'}"
