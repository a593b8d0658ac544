"""Epsilon of a noised bottleneck, by Google's dp-accounting.

Neighbours: two data sets of the same rows but one, whose features and label are exchanged for any others. The view that
is protected against is the party's with the plain top, over the whole training; `bottleneck` says why one row moves no
reveal by more than the clip. Which rows make up a batch is known to all, so nothing is gained by sampling: each row
takes part in at most one step an epoch, and pays for each epoch a Gaussian mechanism for what is shown of it, one for
each gradient that the party gets, and one for the secret layer's own. Whatever an owner sees, above all the trained
model, is not covered, nor are owners who work with the party and hold more than one part of the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from hansa import errors
from hansa.mpc import bottleneck
from hansa.mpc.layout import Arrangement
from hansa.mpc.training import Training


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A Gaussian mechanism: what it noises, its noise in units of the largest change, times a row goes through it."""

    what: str
    multiplier: float
    times: int


def mechanisms(training: Training) -> tuple[Mechanism, ...]:
    """The mechanisms that one row goes through; none where nothing is noised."""
    declared, layout = training.declared, training.layout
    if layout.arrangement is not Arrangement.BOTTLENECK:
        return ()
    reveal, (below, top) = bottleneck.reveal_of(layout), layout.segments
    deviation = {v.name: d for v, d in bottleneck.noises(declared, layout).items()}
    shown = deviation[f"noise.{bottleneck.SHOWN}"] / bottleneck.shown_change(reveal, below)
    assert reveal.gradient_noise is not None
    gradients = [placed.name for segment in (below, top) for placed in bottleneck.weighted(segment)]
    return (
        Mechanism("what is shown of a row", shown, declared.epochs),
        *(Mechanism(f"gradient of {name}", reveal.gradient_noise, declared.epochs) for name in gradients),
    )


def epsilon(training: Training) -> float:
    """Epsilon at the script's delta. Raises `Misconfigured` where dp-accounting is missing or nothing is noised."""
    found = mechanisms(training)
    if not found:
        raise errors.Misconfigured("nothing is noised, and so there is no epsilon")
    if find_spec("dp_accounting") is None:
        raise errors.Misconfigured(
            "epsilon needs dp-accounting, which is not installed", hint="pip install 'hansa[mpc]'"
        )
    import dp_accounting
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    for mechanism in found:
        # Its multiplier is measured by our own largest change, so that the library's relation plays no part.
        accountant.compose(dp_accounting.GaussianDpEvent(mechanism.multiplier), mechanism.times)
    return float(accountant.get_epsilon(training.declared.delta))
