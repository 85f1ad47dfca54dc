# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the network says of stamps: those of cutouts, or of the galaxies of one image."""

from dataclasses import dataclass

import numpy as np
import torch

from astroflux.estimators._canvas import Canvases
from astroflux.estimators._columns import results_of
from astroflux.networks.neighbors import Neighbors
from astroflux.networks.outputs import QUANTILES
from astroflux.networks.pyramid import CANVAS_SIZE
from astroflux.networks.source_models import SourceModels

__all__ = [
    'LARGE_RADIUS',
    'MAX_BINNING',
    'Answer',
    'ProfileMethod',
    'measure_stamps',
    'pixel_weights',
]

# A galaxy of which the canvas shows little is measured again in blocks of pixels, so
# large that its half-light radius is no more than so many of them, and that the stamp fits,
# as far as the radius is no less than so many, with so many pixels along an axis at the most.
LARGE_RADIUS = 10.0
RESOLVED_RADIUS = 4.0
MAX_BINNING = 12


@dataclass
class Answer:
    """
    What the network says of a number of galaxies.

    Attributes
    ----------
    values : dict of str to `~numpy.ndarray`
        What `~astroflux.networks.ProfileNet` returns: fluxes in units of the noise, lengths in
        pixels of the canvas.
    scale : `~numpy.ndarray`
        ``(n,)``, that noise.
    binning : `~numpy.ndarray`
        ``(n,)``, pixels along the side of one of the canvas.
    cropped : `~numpy.ndarray`
        ``(n,)`` bool, whether a part of the stamp was not on the canvas.
    psf_fwhm : `~numpy.ndarray`
        ``(n,)``, width of the PSF in pixels of the canvas.
    offset, reach : `~numpy.ndarray`
        ``(n, 2)`` and ``(n, 4)``, as of `~astroflux.estimators._canvas.Canvases`.
    frame : `~numpy.ndarray`
        ``(n, 2, 3)``, as of these.
    """

    values: dict
    scale: np.ndarray
    binning: np.ndarray
    cropped: np.ndarray
    psf_fwhm: np.ndarray
    offset: np.ndarray
    reach: np.ndarray
    frame: np.ndarray

    @classmethod
    def of(cls, network, canvases, device):
        """Return the network's answer to canvases."""
        with torch.inference_mode():
            known = _known_neighbors(canvases, device)
            values = network(*_tensors(canvases, device), canvases.binning, known)
        return cls(
            {name: value.cpu().numpy().astype(float) for name, value in values.items()},
            canvases.scale,
            np.full(len(canvases.scale), canvases.binning),
            canvases.cropped,
            canvases.psf[:, 0],
            canvases.offset,
            canvases.reach,
            canvases.frame,
        )

    def replace_rows(self, rows, other):
        """Put another answer in the place of some rows."""
        for name, values in other.values.items():
            self.values[name][rows] = values
        for name in ('scale', 'binning', 'cropped', 'psf_fwhm', 'offset', 'reach', 'frame'):
            getattr(self, name)[rows] = getattr(other, name)

    @property
    def models(self):
        """
        The sources as they were fitted, a `~astroflux.networks.source_models.SourceModels`.

        Each is in the pixels of its stamp, and in the unit of the data.
        """
        models = SourceModels.of_fit(self.values['model'], self.values['model_psf'])
        return models.moved(self.frame, self.scale)

    def ln_flux(self, quantile):
        """Return a quantile of the distribution of ln(flux), in units of the noise."""
        return self.values['ln_flux'] + self.values['quantiles'][:, QUANTILES.index(quantile)]


def _tensors(canvases, device):
    arrays = (canvases.image, canvases.weight, canvases.psf)
    return [torch.from_numpy(array).to(device) for array in arrays]


def _known_neighbors(canvases, device):
    """Return what the network is told of sources that were subtracted; `None` of none."""
    if (neighbors := canvases.neighbors) is None:
        return None
    return Neighbors.known(*(torch.from_numpy(part).to(device) for part in neighbors))


def measure_stamps(weights, stamps, device):
    """Return the `Answer` to stamps; the too large ones are measured in blocks of pixels."""
    answer = Answer.of(weights.network, Canvases(stamps), device)
    while len(rows := _too_large(answer)):
        wanted = _wanted_binning(answer, stamps, rows)
        for binning in np.unique(wanted):
            chosen = rows[wanted == binning]
            canvases = Canvases([stamps[row] for row in chosen], int(binning))
            answer.replace_rows(chosen, Answer.of(weights.network_for_blocks, canvases, device))
    return answer


def _too_large(answer):
    """Return the rows of galaxies of which larger blocks would show more."""
    radius = np.exp(answer.values['ln_radius'])
    can_be_larger = answer.cropped & (answer.binning < MAX_BINNING)
    return np.flatnonzero(can_be_larger & (radius > LARGE_RADIUS))


def _wanted_binning(answer, stamps, rows):
    """Return how large blocks are to be."""
    binning = answer.binning[rows]
    pixels = binning * np.exp(answer.values['ln_radius'][rows])
    sides = np.array([_used_side(stamps[row]) for row in rows])
    fitting = np.minimum(np.ceil(sides / CANVAS_SIZE), np.floor(pixels / RESOLVED_RADIUS))
    wanted = np.maximum(np.ceil(pixels / LARGE_RADIUS), fitting)
    # a radius may be infinite
    return np.clip(wanted, binning + 1, MAX_BINNING).astype(int)


def _used_side(stamp):
    """Return the longer side of the part of a stamp that has pixels to be used."""
    if stamp.ignored is None:
        return max(stamp.data.shape)
    used = [np.flatnonzero(~stamp.ignored.all(axis=axis)) for axis in (0, 1)]
    return max(int(np.ptp(each)) + 1 for each in used)


def pixel_weights(weights, stamp, device):
    """
    Return the derivative of a galaxy's flux with respect to the pixels of its stamp.

    It is 0 where pixels are not used.
    """
    binning = int(measure_stamps(weights, [stamp], device).binning[0])
    network = weights.network if binning == 1 else weights.network_for_blocks
    canvases = Canvases([stamp], binning)
    image, weight, psf = _tensors(canvases, device)
    answer = network(image.requires_grad_(), weight, psf, binning)
    ln_flux = answer['ln_flux'] + answer['quantiles'][:, QUANTILES.index(0.5)]
    # The flux and the image are both in units of the noise.
    (derivative,) = torch.autograd.grad(ln_flux.exp().sum(), image)
    return canvases.to_cutout(0, derivative[0].cpu().numpy().astype(float))


class ProfileMethod:
    """Measure cutouts with weights of a `~astroflux.networks.ProfileNet`."""

    def __init__(self, weights, device):
        self.weights, self.device = weights, device

    def check(self):
        """Raise nothing: these weights measure any cutout."""

    def measure(self, cutouts):
        """Return what `~astroflux.estimators.base.FluxEstimator` wants to know of a batch."""
        return self._answer(cutouts)[1]

    def _answer(self, cutouts):
        # what is too large for a number is no measurement, and its row says so
        with np.errstate(over='ignore', invalid='ignore'):
            answer = measure_stamps(self.weights, cutouts, self.device)
            return answer, results_of(answer, self.weights.metadata)

    @property
    def fits_sources(self):
        """Whether the network fits profiles."""
        return self.weights.network.fit is not None

    def fit_sources(self, cutouts):
        """Return the same, and what was fitted to each: `Answer.models`."""
        answer, results = self._answer(cutouts)
        return results, answer.models

    @property
    def network_to_fit(self):
        """The network that a fit starts from."""
        return self.weights.network

    def weight_map(self, cutout):
        """Return how much each pixel of a cutout counts."""
        return pixel_weights(self.weights, cutout, self.device)
