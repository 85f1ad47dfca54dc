# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Draw the profiles that were fitted to sources, as far as they shine."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from astroflux.networks.psf_mixture import N_PSF_GAUSSIANS
from astroflux.networks.sersic_mixture import sersic_mixture
from astroflux.networks.sersic_model import PROFILE_PARAMETERS

__all__ = ['MODEL_PARAMETERS', 'SourceModels']

# A profile, and by how much the ellipse of its inner half differs.
MODEL_PARAMETERS = (*PROFILE_PARAMETERS, 'bend_1', 'bend_2')

# The fit takes a bend to be small, and may extrapolate: here it is no larger than that.
LARGEST_BEND = 0.8

# Half of the sides of the squares that sources are drawn on: the first one that suffices.
REACHES = np.array([10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448])

# How many exponentials are computed at a time: they stay in a cache of the processor.
AT_A_TIME = 2**18

# exp(-35) of anything is nothing; numbers too small for a float would be slow.
SMALLEST_EXPONENT = -35.0


@dataclass(frozen=True)
class SourceModels:
    """
    Sources as sums of Gaussians, seen through a PSF that is another such sum.

    Attributes
    ----------
    profile : `~numpy.ndarray`
        ``(n, 7)``: `~astroflux.networks.sersic_model.PROFILE_PARAMETERS`, positions in pixels of
        an image, fluxes in its unit.
    flux : `~numpy.ndarray`
        ``(n, k)``, of each Gaussian of a source.
    xx, xy, yy : `~numpy.ndarray`
        ``(n, k)``, their covariance in square pixels, without the PSF.
    psf_variance, psf_weight : `~numpy.ndarray`
        ``(n, 4)``, of the Gaussians of the PSF; the weights have the sum one.
    """

    profile: np.ndarray
    flux: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    psf_variance: np.ndarray
    psf_weight: np.ndarray

    @classmethod
    def of_fit(cls, model, model_psf):
        """
        Return sources as a `~astroflux.networks.profile_net.ProfileNet` tells of them.

        Parameters
        ----------
        model : `~numpy.ndarray`
            ``(n, 9 + k)``: `MODEL_PARAMETERS`, and what joins the flux of each Gaussian, over
            that of the profile. Positions are from the center of the canvas.
        model_psf : `~numpy.ndarray`
            ``(n, 8)``: ln of the variances of the PSF's Gaussians, and their weights.
        """
        n_given = len(MODEL_PARAMETERS)
        named = dict(zip(MODEL_PARAMETERS, model[:, :n_given].T, strict=True))
        free = model[:, n_given:]
        k = free.shape[1]
        mixtures = [sersic_mixture(k)(index) for index in np.exp(named['ln_index'])]
        amplitude, width = (np.reshape(part, (-1, k)) for part in zip(*mixtures, strict=True))
        variance = (width * np.exp(named['ln_radius'])[:, None]) ** 2
        inner = np.arange(k) < k // 2
        bend = model[:, len(PROFILE_PARAMETERS) : n_given]
        bend = bend * np.minimum(1, LARGEST_BEND / (np.hypot(*bend.T)[:, None] + 1e-8))
        e1, e2 = (named[f'e{i}'][:, None] + inner * bend[:, i - 1, None] for i in (1, 2))
        size = np.sqrt(e1**2 + e2**2 + 1e-8)
        even, odd = np.cosh(size), np.sinh(size) / size
        return cls(
            model[:, : len(PROFILE_PARAMETERS)],
            np.exp(named['ln_flux'])[:, None] * (amplitude + free),
            variance * (even + odd * e1),
            variance * odd * e2,
            variance * (even - odd * e1),
            np.exp(model_psf[:, :N_PSF_GAUSSIANS]),
            model_psf[:, N_PSF_GAUSSIANS:],
        )

    def moved(self, frame, scale):
        """
        Return the sources in another frame and unit.

        Parameters
        ----------
        frame : `~numpy.ndarray`
            ``(n, 2, 3)``: for each a matrix, a multiple of an orthogonal one, and in the last
            column what is added to its product with ``(x, y)``.
        scale : `~numpy.ndarray`
            ``(n,)``, what fluxes are multiplied by.
        """
        matrix, shift = frame[:, :, :2], frame[:, :, 2]
        profile = moved_profiles(self.profile, matrix, shift, scale)
        shape = np.stack([self.xx, self.xy, self.xy, self.yy], axis=2)
        shape = shape.reshape(*self.xx.shape, 2, 2)
        shape = np.einsum('nij,nkjl,nml->nkim', matrix, shape, matrix)
        area = np.abs(np.linalg.det(matrix))
        return replace(
            self,
            flux=self.flux * scale[:, None],
            xx=shape[:, :, 0, 0],
            xy=shape[:, :, 0, 1],
            yy=shape[:, :, 1, 1],
            psf_variance=self.psf_variance * area[:, None],
            profile=profile,
        )

    @property
    def x(self):
        """Positions in pixels, ``(n,)``."""
        return self.profile[:, 1]

    @property
    def y(self):
        """Positions in pixels, ``(n,)``."""
        return self.profile[:, 2]

    def __len__(self):
        return len(self.profile)

    def __getitem__(self, rows):
        """Return some of the sources, by an array of their numbers or of bool."""
        return replace(self, **{name: values[rows] for name, values in vars(self).items()})

    @classmethod
    def unknown(cls, n, k):
        """Return so many sources, of which nothing is known yet."""
        sides = (len(PROFILE_PARAMETERS), *(k,) * 4, *(N_PSF_GAUSSIANS,) * 2)
        return cls(*(np.full((n, side), np.nan) for side in sides))

    def put(self, rows, others):
        """Put others in the place of some of the sources."""
        for name, values in vars(self).items():
            values[rows] = getattr(others, name)

    @property
    def is_known(self):
        """Which sources can be drawn, ``(n,)``."""
        return np.isfinite(np.concatenate(list(vars(self).values()), axis=1)).all(axis=1)

    def _gaussians(self):
        """Return flux and covariance of all Gaussians as they are seen, each ``(n, k * 4)``."""
        blur = (self.psf_variance + 1 / 12)[:, None, :]
        shape = (len(self), self.flux.shape[1] * blur.shape[2])
        return tuple(
            part.reshape(shape)
            for part in (
                self.flux[:, :, None] * self.psf_weight[:, None, :],
                self.xx[:, :, None] + blur,
                self.xy[:, :, None] + np.zeros_like(blur),
                self.yy[:, :, None] + blur,
            )
        )

    def reach(self, faintest):
        """
        Return how far sources are to be drawn, in pixels along each axis, ``(n,)`` integers.

        Parameters
        ----------
        faintest : float or `~numpy.ndarray`
            The brightness per pixel, of each, that is not drawn any more.
        """
        flux, xx, xy, yy = self._gaussians()
        peak = flux / (2 * np.pi * np.sqrt(xx * yy - xy**2))
        half = (xx + yy) / 2
        widest = half + np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        faintest = np.broadcast_to(faintest, len(self))
        reach = np.full(len(self), REACHES[-1])
        for radius in REACHES[::-1]:
            brightness = np.abs((peak * np.exp(-0.5 * radius**2 / widest)).sum(axis=1))
            reach[brightness < faintest] = radius
        return reach

    def draw(self, reach):
        """
        Draw sources, each by itself.

        Parameters
        ----------
        reach : `~numpy.ndarray` of int
            ``(n,)``, as of `reach`.

        Yields
        ------
        row, (x0, y0), image : int, tuple of int, `~numpy.ndarray`
            Of each source in no order; the pixel of the image that its square begins with; and
            its light there, ``(2 reach + 1, 2 reach + 1)`` float32.
        """
        flux, xx, xy, yy = self._gaussians()
        determinant = xx * yy - xy**2
        shape = np.stack([-0.5 * yy, xy, -0.5 * xx], axis=2) / determinant[:, :, None]
        peak = flux / (2 * np.pi * np.sqrt(determinant))
        shape, peak = (torch.from_numpy(part.astype(np.float32)) for part in (shape, peak))
        corners = np.stack([np.round(self.x), np.round(self.y)], axis=1).astype(int)
        for half in np.unique(reach):
            rows = np.flatnonzero(reach == half)
            side = 2 * half + 1
            step = max(1, AT_A_TIME // (side**2 * peak.shape[1]))
            for first in range(0, len(rows), step):
                some = rows[first : first + step]
                images = self._draw_some(some, corners[some], half, shape[some], peak[some])
                for row, image in zip(some.tolist(), images, strict=True):
                    yield row, tuple((corners[row] - half).tolist()), image

    def _draw_some(self, rows, corners, half, shape, peak):
        ticks = np.arange(-half, half + 1)
        x, y = (
            torch.from_numpy((corners[:, axis, None] + ticks - c[rows, None]).astype(np.float32))
            for axis, c in enumerate((self.x, self.y))
        )
        # (n, pixels, 3) times (n, 3, gaussians)
        xx, xy, yy = x[:, None, :] ** 2, x[:, None, :] * y[:, :, None], y[:, :, None] ** 2
        squares = torch.stack(torch.broadcast_tensors(xx, xy, yy), dim=3).flatten(1, 2)
        light = (squares @ shape.mT).clamp_(SMALLEST_EXPONENT, 0).exp_() @ peak[:, :, None]
        return light.unflatten(1, (len(ticks), len(ticks)))[..., 0].numpy()


def moved_profiles(profile, matrix, shift, scale):
    """
    Return parameters of profiles in another frame and unit, ``(n, 7)``.

    Parameters
    ----------
    profile : `~numpy.ndarray`
        ``(n, 7)``: `~astroflux.networks.sersic_model.PROFILE_PARAMETERS`.
    matrix, shift, scale : `~numpy.ndarray`
        ``(n, 2, 2)``, ``(n, 2)`` and ``(n,)``, as of `SourceModels.moved`.
    """
    position = np.einsum('nij,nj->ni', matrix, profile[:, 1:3]) + shift
    area = np.abs(np.linalg.det(matrix))
    ln_flux, _, _, e1, e2, ln_radius, ln_index = profile.T
    ellipse = np.stack([e1, e2, e2, -e1], axis=1).reshape(-1, 2, 2)
    ellipse = np.einsum('nij,njk,nlk->nil', matrix, ellipse, matrix) / area[:, None, None]
    return np.stack(
        [
            ln_flux + np.log(scale),
            *position.T,
            *(ellipse[:, 0, 0], ellipse[:, 0, 1]),
            ln_radius + np.log(area) / 2,
            ln_index,
        ],
        axis=1,
    )
