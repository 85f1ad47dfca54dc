# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A cutout that every network is asked about when it is written, and again when it is read."""

import math

import numpy as np
import torch

from astroflux.networks.psf_mixture import TYPICAL
from astroflux.networks.pyramid import CANVAS_SIZE, REACH
from astroflux.networks.study_net import SIDE, StudyNet

__all__ = ['answer_to_reference', 'compare_answers']

# Answers to the reference agree within this, or this part of the stored one if that is larger.
# The oldest and the newest instructions of a processor differ by 3e-6.
TOLERANCE = 1e-4

# Of an image without noise, so that nothing is near a threshold: a disc of an axis ratio of 0.6,
# and a point source beside it. Surface brightness in units of the noise of a pixel.
PEAK, SCALE_LENGTH, AXIS_RATIO = 30.0, 3.5, 0.6
NEIGHBOR_PEAK, NEIGHBOR_SIGMA, NEIGHBOR_PLACE = 15.0, 1.7, (17, -11)

# Width and noise-equivalent area of the PSF in pixels.
PSF = (4.0, 40.0)

# Blocks of pixels that the network for these is told of.
BINNING = 2


def _draw(side):
    y, x = np.mgrid[:side, :side] - side // 2
    galaxy = PEAK * np.exp(-np.hypot(x, y / AXIS_RATIO) / SCALE_LENGTH)
    apart = (x - NEIGHBOR_PLACE[0]) ** 2 + (y - NEIGHBOR_PLACE[1]) ** 2
    neighbor = NEIGHBOR_PEAK * np.exp(-0.5 * apart / NEIGHBOR_SIGMA**2)
    return torch.as_tensor((galaxy + neighbor)[None], dtype=torch.float32)


def answer_to_reference(network, *, in_blocks=False):
    """
    Return what a network says of the reference cutout.

    Parameters
    ----------
    network : `torch.nn.Module`
        One of the architectures of this package, in evaluation mode, on a CPU.
    in_blocks : bool
        Whether it is the network for galaxies in blocks of pixels.

    Returns
    -------
    answer : dict of float
        Numbers by their names, those that do not jump.

    Raises
    ------
    ValueError
        If there is no answer, or it is not finite.
    """
    try:
        with torch.inference_mode():
            answer = _ask(network, in_blocks)
    except Exception as exc:  # whatever torch says of the numbers
        msg = f'does not measure the reference cutout: {str(exc)[:200]}'
        raise ValueError(msg) from exc
    if bad := [name for name, value in answer.items() if not math.isfinite(value)]:
        msg = f'measures the reference cutout with {bad[0]} = {answer[bad[0]]}'
        raise ValueError(msg)
    return answer


def _ask(network, in_blocks):
    if isinstance(network, StudyNet):
        columns = torch.ones(1, n) if (n := network.settings['n_columns']) else None
        return {'log_flux': float(network(_draw(SIDE)[None], columns))}
    image, weight = _draw(CANVAS_SIZE), torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    # a part beside the galaxy is masked
    masked = np.s_[:, REACH + 6 : REACH + 11, REACH - 9 : REACH - 3]
    image[masked] = weight[masked] = 0
    psf = torch.tensor([[*PSF, *TYPICAL]], dtype=torch.float32)
    answer = network(image, weight, psf, BINNING if in_blocks else 1)
    of_shape = [name for output in network.outputs for name in (output.name, output.error)]
    names = ['ln_flux', 'detection_snr', *of_shape, *({'novelty'} & set(answer))]
    several = {'quantile': answer['quantiles'][0]}
    if 'judged' in answer:
        several['novelty'] = _novelties(network.familiarity, answer)
    return {name: float(answer[name]) for name in names} | {
        f'{name}_{number}': float(value)
        for name, values in several.items()
        for number, value in enumerate(values)
    }


def _novelties(familiarity, answer):
    """Return that of each group of features; the network tells the largest."""
    ln_snr = answer['detection_snr'].log()
    parts = answer['judged'].split(familiarity.sizes, dim=1)
    return [group(part, ln_snr) for group, part in zip(familiarity.groups, parts, strict=True)]


def compare_answers(found, stated):
    """
    Raise `ValueError` if an answer to the reference cutout is not the one that was stored.

    Parameters
    ----------
    found, stated : dict of float
        Answers: of the network as it is, and as it was when it was written.
    """
    for name, value in found.items():
        want = stated.get(name) if isinstance(stated, dict) else None
        is_number = type(want) is float
        if not is_number or not abs(value - want) <= TOLERANCE * max(1, abs(want)):
            given = f'{want:.7g}' if is_number else 'nothing'
            msg = (
                f'does not measure as it did when it was written: {name} of the reference cutout '
                f'is {value:.7g}, the file states {given}'
            )
            raise ValueError(msg)
