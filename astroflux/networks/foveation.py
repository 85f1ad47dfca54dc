# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From a stamp to what the network sees: two resolutions, apertures and filters.

Everything here is linear in the image or a ratio of such numbers, so that the
network on top can be exactly equivariant in flux.
"""

import math

import numpy as np
import torch
from torch import nn

__all__ = ['CANVAS_SIZE', 'REACH', 'Foveation', 'fill_from_opposite_side', 'symmetric_part']

FINE_SIZE = 49
COARSE_BLOCK = 3
CANVAS_SIZE = FINE_SIZE * COARSE_BLOCK
REACH = CANVAS_SIZE // 2

APERTURE_RADII = (2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 37.0, 51.0, 71.0)
FILTER_SIGMAS = (1.5, 2.4, 3.9, 6.2, 10.0, 16.0)

# The mean of the smaller of two standard normal deviates is -1/sqrt(pi).
MEAN_OF_MINIMUM = -1.0 / math.sqrt(math.pi)


def fill_from_opposite_side(image, valid):
    """
    Replace unusable pixels by those across the centre.

    Parameters
    ----------
    image : `torch.Tensor`
        ``(n, size, size)``, size odd; 0 where a pixel cannot be used.
    valid : `torch.Tensor`
        Same shape, or ``(1, size, size)`` for all; 1 where a pixel can be
        used and 0 elsewhere.

    Returns
    -------
    filled, covered : `torch.Tensor`
        The image, 0 where neither side can be used, and where it is filled;
        of the shapes of ``image`` and ``valid``.
    """
    fillable = (1 - valid) * valid.flip((-2, -1))
    if fillable.sum() == 0:
        return image, valid
    return torch.addcmul(image, fillable, image.flip((-2, -1))), valid + fillable


def symmetric_part(filled, valid):
    """
    Return the image's minimum with itself turned by 180 degrees.

    What stands on one side only, such as a neighbour, disappears. The
    minimum of two noisy pixels is low by ``1/sqrt(pi)`` sigma; this is added
    back, so that the sum over a symmetric source is unbiased where the source
    is symmetric and the noise is one.

    Parameters
    ----------
    filled, valid : `torch.Tensor`
        As in `fill_from_opposite_side`, in units of the noise.

    Returns
    -------
    symmetric : `torch.Tensor`
        Of the shape of ``filled``.
    """
    minimum = torch.minimum(filled, filled.flip((-2, -1)))
    has_two_sides = valid * valid.flip((-2, -1))
    return minimum - MEAN_OF_MINIMUM * has_two_sides


def _aperture_weights():
    """Return the fraction of each pixel within each aperture, by subsampling."""
    subsamples = 10
    ticks = (np.arange(CANVAS_SIZE * subsamples) + 0.5) / subsamples - CANVAS_SIZE / 2
    squared = ticks[:, None] ** 2 + ticks[None, :] ** 2
    shape = (CANVAS_SIZE, subsamples, CANVAS_SIZE, subsamples)
    return np.stack(
        [(squared < r**2).reshape(shape).mean(axis=(1, 3)).ravel() for r in APERTURE_RADII], axis=1
    )


def _filter_weights():
    """Return Gaussians of unit sum, cut where they no longer matter."""
    ticks = np.arange(CANVAS_SIZE) - REACH
    squared = (ticks[:, None] ** 2 + ticks[None, :] ** 2).ravel()
    weights = np.stack([np.exp(-0.5 * squared / s**2) for s in FILTER_SIGMAS], axis=1)
    # Denormal numbers far out would slow every product tenfold.
    weights[weights < 1e-8] = 0
    return weights / weights.sum(axis=0)


def _compress(x):
    """Return asinh(x), from functions that torch vectorises; its own asinh is much slower."""
    size = x.abs()
    return torch.log(size + torch.sqrt(size * size + 1)).copysign(x)


def _block_mean(picture):
    """Return the means of blocks of 3 x 3; pooling is much slower."""
    rows = picture[:, 0::3] + picture[:, 1::3] + picture[:, 2::3]
    return (rows[..., 0::3] + rows[..., 1::3] + rows[..., 2::3]) / COARSE_BLOCK**2


def _psf_features(psf):
    """
    Return ln FWHM, whether it is known, ln (area / FWHM**2), whether it is known.

    The area in units of the squared width tells the wings of a PSF: 2.3 for a
    Gaussian, 3.0 to 4.4 for a Moffat profile of exponent 5 to 2.5.
    """
    fwhm, area = psf.unbind(dim=1)
    values = torch.stack([fwhm.log(), (area / fwhm**2).log()], dim=1)
    known = torch.isfinite(values)
    values = torch.where(known, values, torch.zeros_like(values))
    return torch.stack([values[:, 0], known[:, 0], values[:, 1], known[:, 1]], dim=1)


def _between(cumulative):
    """Return the differences along the apertures, the first one from zero."""
    return torch.diff(cumulative, dim=1, prepend=torch.zeros_like(cumulative[:, :1]))


class Foveation(nn.Module):
    """
    The network's view of a stamp, at a cost that does not depend on its size.

    Attributes
    ----------
    n_candidates : int
        Number of flux estimates (apertures and filters, of the image and of
        its symmetric part).
    n_features : int
        Number of scalar features.
    """

    n_candidates = 2 * (len(APERTURE_RADII) + len(FILTER_SIGMAS))
    n_features = (
        2 * (3 * len(APERTURE_RADII) + 2 * len(FILTER_SIGMAS)) + 2 * len(APERTURE_RADII) + 7
    )

    def __init__(self):
        super().__init__()
        apertures, filters = _aperture_weights(), _filter_weights()
        joined = np.concatenate([apertures, filters], axis=1)
        powers = np.concatenate([apertures, filters**2], axis=1)
        # Constants of this module, not weights: they are not saved.
        for name, array in {'joined': joined, 'powers': powers}.items():
            self.register_buffer(
                name, torch.as_tensor(array, dtype=torch.float32), persistent=False
            )
        area = torch.as_tensor(powers.sum(axis=0), dtype=torch.float32)
        self.register_buffer('area', area, persistent=False)

    def forward(self, image, valid, psf):
        """
        Compute images, features and flux candidates.

        Parameters
        ----------
        image : `torch.Tensor`
            ``(n, 147, 147)`` float32 in units of the noise, centred on the galaxy.
            0 where a pixel does not exist or cannot be used.
        valid : `torch.Tensor`
            Same shape, 1 where a pixel can be used, else 0; or
            ``(1, 147, 147)`` if that is the same for all, which is faster.
        psf : `torch.Tensor`
            ``(n, 2)``: full width at half maximum in pixels, and
            noise-equivalent area in square pixels; NaN where unknown.

        Returns
        -------
        view : dict of `torch.Tensor`
            ``fine`` and ``coarse`` ``(n, 3, 49, 49)``; ``features``
            ``(n, n_features)``; ``candidates`` ``(n, n_candidates)`` as
            ratios to the reference flux; ``ln_reference``, ``reference_snr``,
            ``ln_width`` ``(n,)``: the best matched filter's ln flux in units
            of the noise, its signal-to-noise ratio and its ln width.
        """
        filled, covered = fill_from_opposite_side(image, valid)
        symmetric = symmetric_part(filled, valid)
        coverage = covered.flatten(1) @ self.powers
        fluxes, snrs, rings = zip(
            *(self._photometry(picture, coverage) for picture in (filled, symmetric)), strict=True
        )
        reference, reference_snr, ln_width = self._reference(fluxes[0], snrs[0])

        n_apertures = len(APERTURE_RADII)
        candidates = torch.cat(fluxes, dim=1) / reference[:, None]
        unmasked = valid.flatten(1) @ self.powers[:, :n_apertures]
        features = torch.cat(
            [
                _compress(torch.cat(snrs + rings, dim=1)),
                # The ratios' useful range is 0 to 10; beyond, noise over noise.
                _compress(candidates.clamp(-20, 20)),
                *(
                    (part[:, :n_apertures] / self.area[:n_apertures]).expand(len(image), -1)
                    for part in (coverage, unmasked)
                ),
                torch.stack([reference_snr.log(), reference.log(), ln_width], dim=1),
                _psf_features(psf),
            ],
            dim=1,
        )
        return {
            **self._pyramid(filled, symmetric, valid),
            'features': features,
            'candidates': candidates,
            'ln_reference': reference.log(),
            'reference_snr': reference_snr,
            'ln_width': ln_width,
        }

    def _photometry(self, picture, coverage):
        """Return fluxes, their S/N, and the S/N of the rings between apertures."""
        sums = picture.flatten(1) @ self.joined
        n_apertures = len(APERTURE_RADII)
        aperture_sums, filter_sums = sums[:, :n_apertures], sums[:, n_apertures:]
        # At least a pixel of area, so that an aperture of masked pixels stays finite.
        n_pixels = coverage[:, :n_apertures].clamp(min=1)
        power = coverage[:, n_apertures:].clamp(min=1e-3 * float(self.area[n_apertures:].min()))
        flux = torch.cat([aperture_sums, filter_sums / power], dim=1)
        snr = torch.cat([aperture_sums / n_pixels.sqrt(), filter_sums / power.sqrt()], dim=1)
        ring_sums = _between(aperture_sums)
        ring_pixels = _between(coverage[:, :n_apertures]).clamp(min=1)
        return flux, snr, ring_sums / ring_pixels.sqrt()

    def _reference(self, flux, snr):
        """Pick the Gaussian filter with the highest S/N."""
        n_apertures = len(APERTURE_RADII)
        filter_flux, filter_snr = flux[:, n_apertures:], snr[:, n_apertures:]
        best = filter_snr.argmax(dim=1, keepdim=True)
        best_flux, best_snr = filter_flux.gather(1, best)[:, 0], filter_snr.gather(1, best)[:, 0]
        # Without a source the logarithm still needs a positive number; the
        # caller sees from the S/N that there is none.
        floor = 0.5
        noise = (best_flux / best_snr).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
        reference = torch.where(best_snr > floor, best_flux, floor * noise.abs().clamp(min=1e-3))
        widths = torch.tensor(FILTER_SIGMAS, device=flux.device).log()
        return reference, best_snr.clamp(min=floor), widths[best[:, 0]]

    @staticmethod
    def _pyramid(filled, symmetric, valid):
        """Return the centre at full resolution and the whole in blocks."""
        edge = (CANVAS_SIZE - FINE_SIZE) // 2
        centre = slice(edge, edge + FINE_SIZE)
        fine = [picture[:, centre, centre] for picture in (filled, symmetric, valid)]
        coarse = [_block_mean(picture) for picture in (filled, symmetric, valid)]

        def compress(level, noise_gain):
            pictures = torch.stack(level[:2], dim=1)
            usable = level[2][:, None].expand(len(filled), -1, -1, -1)
            return torch.cat([_compress(pictures * noise_gain), usable], dim=1)

        # The mean of 3 x 3 pixels has a third of their noise.
        return {'fine': compress(fine, 1.0), 'coarse': compress(coarse, float(COARSE_BLOCK))}
