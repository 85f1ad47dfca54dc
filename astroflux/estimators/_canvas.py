# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Put cutouts of any shape onto the network's canvas, in units of their noise."""

import numpy as np

from astroflux.networks.foveation import CANVAS_SIZE, REACH

__all__ = ['Canvases']


class Canvases:
    """
    A batch of cutouts as the network takes it.

    The galaxy's position falls on the central pixel, to the nearest pixel.
    What a cutout lacks is marked as not valid; what reaches beyond the canvas
    is left out.

    Parameters
    ----------
    cutouts : list of `~astroflux.cutouts.Cutout`
        None of them failed.

    Attributes
    ----------
    image : `~numpy.ndarray`
        ``(n, 147, 147)`` float32, 0 where a pixel is missing or ignored.
    valid : `~numpy.ndarray`
        Same shape, 1 where a pixel can be used, else 0; or
        ``(1, 147, 147)`` if that is the same for all.
    psf : `~numpy.ndarray`
        ``(n, 2)`` float32: full width at half maximum in pixels and
        noise-equivalent area in square pixels, NaN where unknown.
    scale : `~numpy.ndarray`
        ``(n,)`` the noise that the image was divided by: the median over the
        usable pixels, because the galaxy's own photon noise must not distort
        its shape.
    cropped : `~numpy.ndarray`
        ``(n,)`` bool, whether a part of the cutout was left out.
    """

    def __init__(self, cutouts):
        n = len(cutouts)
        self.image = np.zeros((n, CANVAS_SIZE, CANVAS_SIZE), np.float32)
        shared = _all_pixels_alike(cutouts)
        self.valid = np.zeros_like(self.image[:1] if shared else self.image)
        if shared:
            self.valid[0][_windows(cutouts[0])[1]] = 1
        self.psf = np.array([(c.psf_fwhm, _psf_area(c.psf)) for c in cutouts], np.float32)
        self.scale = np.empty(n)
        self.cropped = np.zeros(n, bool)
        for row, cutout in enumerate(cutouts):
            source, target = self._place(row, cutout)
            if not shared:
                self.valid[row][target] = ~cutout.mask[source]

    def _place(self, row, cutout):
        scale = _typical_noise(cutout)
        source, target = _windows(cutout)
        # In double precision until here: any unit fits into the network's
        # floats. Ignored pixels are zero already.
        np.multiply(
            cutout.data[source], 1 / scale, out=self.image[row][target], casting='same_kind'
        )
        self.scale[row] = scale
        self.cropped[row] = self.image[row][target].size < cutout.data.size
        return source, target


def _all_pixels_alike(cutouts):
    """Return whether all cutouts lie alike on the canvas and none has a mask."""
    first = cutouts[0]
    return all(
        c.data.shape == first.data.shape and c.position == first.position and not c.mask.any()
        for c in cutouts
    )


def _psf_area(psf):
    """Return the noise-equivalent area of a PSF image whose sum is one."""
    return np.nan if psf is None else 1 / np.vdot(psf, psf)


def _typical_noise(cutout):
    """Return the median noise of the usable pixels."""
    noise = cutout.noise
    if noise.min() == noise.max():
        return float(noise.flat[0])
    return float(np.median(noise[~cutout.mask]))


def _windows(cutout):
    """Return the slices of a cutout and of the canvas that coincide."""
    pairs = [
        _window(length, centre)
        for length, centre in zip(cutout.data.shape, cutout.position[::-1], strict=True)
    ]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _window(length, centre):
    """Return the slices of a cutout's and of the canvas's axis that coincide."""
    # Half a pixel to the same side always, as the training has it.
    shift = REACH - int(np.ceil(centre - 0.5 + 1e-9))
    start, stop = max(0, -shift), min(length, CANVAS_SIZE - shift)
    return slice(start, max(start, stop)), slice(start + shift, max(start, stop) + shift)
