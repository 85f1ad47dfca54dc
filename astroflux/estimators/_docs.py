# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parts of docstrings that several classes and methods have in common, each written once."""

import re
from textwrap import indent

__all__ = ['share_docs']

_TEXTS = {
    'cutouts': """\
cutouts : image or iterable of images
    One cutout (`~astropy.nddata.CCDData`, `~astropy.nddata.NDData`,
    `~astropy.nddata.Cutout2D`, `~astropy.units.Quantity`, a 2-d array, the path of a
    FITS file, or a `~astroflux.cutouts.CutoutFile`), a 3-d stack ``(n, ny, nx)`` of them,
    or an iterable of cutouts, which may differ in shape. An iterator is read one batch at
    a time.""",
    'flux': """\
flux : `~astropy.units.Quantity` or array_like, shape (n,)
    True total flux of each cutout, positive; without a unit only if the cutouts have
    none.""",
    'options': """\
psf : array_like or `~photutils.psf.ImagePSF`, optional
    Image of the PSF for all cutouts, or an iterable with one per cutout. By default the
    ``psf`` of each cutout. Of one image, also a `~astroflux.cutouts.PSFField`, what it is made
    from, or, for ``measure_field``, ``'stars'`` or the name of a column of the catalogue: see
    :ref:`psf-over-a-field`.

oversampling : int or pair of int, optional
    Pixels of the PSF images per pixel of the cutouts along an axis, or ``(y, x)``. By default
    1, and what a model of photutils says of itself. The image is an effective PSF, as in
    photutils: see :ref:`psf-images`.

psf_fwhm : float or `~astropy.units.Quantity`, optional
    FWHM of the PSF in pixels or as an angle, one for all or one per cutout. An array of one
    value is one for all: scikit-learn's searches take ``[0.7] * u.arcsec``, but no scalar.

positions : array_like, optional
    ``(x, y)`` of the galaxy in pixels, counted from 0, or one pair per cutout. By
    default the centre of the cutout. Of one image, many positions may be given, and a stamp is
    cut around each: an array ``(n, 2)`` or list of pairs, a `~astropy.coordinates.SkyCoord`, a
    table, or a `~photutils.segmentation.SourceCatalog` or
    `~photutils.segmentation.SegmentationImage`, which also masks the neighbors. See
    :doc:`/fields`.

labels : int, str or array_like, optional
    Which sources of a catalogue in ``positions`` to take, by their labels or identifiers. By
    default all.

stamp_size : int or array_like of int, optional
    Side in pixels of the stamps around many positions of one image, or one for each. By
    default three times the box of the source in the catalogue, and at least the 147 pixels
    that the network sees.

error : float, 2D array_like or `~astropy.units.Quantity`, optional
    Noise (1 sigma) of the pixels, or an iterable with one per cutout. By default the
    uncertainty of each cutout; without either, the noise is estimated from the pixels.

mask : 2D array_like of bool, optional
    `True` where a pixel is to be ignored, or an iterable with one per cutout; besides the
    cutout's own mask.

background : {'none', 'local'}, float, 2D array_like or Background2D, optional
    The sky to subtract, or an iterable with one per cutout: ``'local'`` is the sigma-clipped
    median of a frame at the edge of each stamp, whose error is added to that of the flux. By
    default, the sky is taken to be subtracted.

effective_gain : float, 2D array_like or `~astropy.units.Quantity`, optional
    Electrons per unit of the cutouts. To be given if their noise is that of the sky alone: that
    of the photons of the sources is added to it.

noise_correlation : float, 2D array_like or 'estimate', optional
    How the noise is correlated between pixels, for all cutouts: by how much sums over
    7 x 7 pixels scatter more than in white noise (0.5 to 5); or the kernel, of odd sides, that
    makes the noise from white noise; or ``'estimate'`` to measure the former in the blank sky
    of each cutout. By default the noise is white.""",
    'progress': """\
progress : bool, optional
    Whether to show how far the work is, on the standard error stream: as a bar on a terminal
    or in a notebook, which goes when the work is done, else, as in a log, in a line every half
    minute. By default a bar appears after two seconds, and a line after half a minute.""",
    'y': """\
y : `~astropy.units.Quantity` or array_like, shape (n,), optional
    Another name of ``flux``, as scikit-learn calls it.""",
    'known_galaxies': """\
Parameters
----------
{cutouts}

{flux}

{options}

{y}

{progress}""",
    'save': """\
Parameters
----------
path : str or `~pathlib.Path`
    The file.

overwrite : bool, optional
    Whether to replace a file that exists.

Raises
------
OSError
    If the file exists and ``overwrite`` is not set, or it cannot be written.""",
    'load': """\
Parameters
----------
path : str or `~pathlib.Path`
    The file.

Returns
-------
estimator : same class

Raises
------
ValueError
    If the file does not hold an estimator of this class, or is damaged.

OSError
    If the file cannot be read.""",
    'finder': """\
finder : `~astroflux.estimators.SourceFinder`, optional
    How the galaxy is detected and split from its neighbors.""",
    'auto_finder': """\
finder : `~astroflux.estimators.SourceFinder`, optional
    How the galaxy is detected and split from its neighbors, by default
    ``SourceFinder(contrast=0.005)``: ``n_sigma`` is DETECT_THRESH, ``n_pixels``
    DETECT_MINAREA, ``n_levels`` DEBLEND_NTHRESH, ``contrast`` DEBLEND_MINCONT. The filter
    has a FWHM of 10 pixels at most; where neither ``kernel_fwhm`` nor the PSF is known, it is
    SExtractor's default one of 3 by 3 pixels.""",
    'aperture': """\
aperture : {'elliptical', 'circular'}, optional
    Shape of the aperture.""",
    'auto_params': """\
auto_params : tuple of float, optional
    Factor on the Kron radius, and the least radius after that, in units of the semimajor
    axis (PHOT_AUTOPARAMS).

min_radius : float, optional
    An ellipse whose mean radius is smaller than this many pixels is replaced by a circle of
    this radius (half of the second of PHOT_AUTOAPERS).

neighbors : {'correct', 'mask', 'none'}, optional
    What becomes of the pixels of other sources within the ellipse: replaced by those
    opposite, left out, or summed all the same (MASK_TYPE CORRECT, BLANK, NONE). Masked
    pixels are treated as those of other sources; with ``'none'`` they are left out.""",
    'aperture_correction': """\
aperture_correction_ : float
    True flux over measured flux, learned by `fit`; fluxes and errors are multiplied by it.""",
    'kron_columns': """\
`measure` adds the columns ``kron_radius`` (in units of the semimajor axis of the source's
second moments), ``semimajor_axis`` (of the aperture) and ``axis_ratio``.""",
    'auto_references': """\
.. [1] Bertin, E. & Arnouts, S. 1996, A&AS, 117, 393
.. [2] Kron, R. G. 1980, ApJS, 43, 305""",
    'gaussian': """\
>>> import numpy as np
>>> from astropy.nddata import CCDData, StdDevUncertainty
>>> y, x = np.mgrid[-30:31, -30:31]
>>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
>>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))""",
}

_LINE = re.compile(r'^(?P<margin> *)\{(?P<name>\w+)\}$', re.MULTILINE)


def share_docs(item):
    """Put the texts in place of the lines ``{name}`` in the docstring of a class or function."""
    # there is none if Python runs with -OO
    item.__doc__ = item.__doc__ and _fill(item.__doc__)
    return item


def _fill(text):
    return _LINE.sub(lambda line: indent(_fill(_TEXTS[line['name']]), line['margin']), text)
