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
    image, valid : `~numpy.ndarray`
        ``(n, 147, 147)`` float32.
    psf_fwhm : `~numpy.ndarray`
        ``(n,)`` float32 in pixels, NaN where unknown.
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
        self.valid = np.zeros_like(self.image)
        self.psf_fwhm = np.array([c.psf_fwhm for c in cutouts], np.float32)
        self.scale = np.empty(n)
        self.cropped = np.zeros(n, bool)
        for row, cutout in enumerate(cutouts):
            self._place(row, cutout)

    def _place(self, row, cutout):
        usable = ~cutout.mask
        scale = np.median(cutout.noise[usable])
        windows = [
            _window(length, centre)
            for length, centre in zip(cutout.data.shape, cutout.position[::-1], strict=True)
        ]
        source = tuple(w[0] for w in windows)
        target = tuple(w[1] for w in windows)
        usable = usable[source]
        # Divided in double precision: any unit fits into the network's floats.
        self.image[row][target] = np.where(usable, cutout.data[source] / scale, 0)
        self.valid[row][target] = usable
        self.scale[row] = scale
        self.cropped[row] = usable.size < cutout.data.size


def _window(length, centre):
    """Return the slices of a cutout's and of the canvas's axis that coincide."""
    # Half a pixel to the same side always, as the training has it.
    shift = REACH - int(np.ceil(centre - 0.5 + 1e-9))
    start, stop = max(0, -shift), min(length, CANVAS_SIZE - shift)
    return slice(start, max(start, stop)), slice(start + shift, max(start, stop) + shift)
