# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor, by the program itself."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits

from astroflux.estimators._flux_auto import AutoFluxEstimator, AutoSource
from astroflux.estimators._photometric import MeasurementError
from astroflux.estimators._segments import find_label
from astroflux.estimators.methods import SEXTRACTOR_PROGRAMS
from astroflux.flags import MeasurementFlag

__all__ = ['SExtractorFluxEstimator']

# bits of SExtractor's FLAGS
_CROWDED, _DEBLENDED, _TRUNCATED, _INCOMPLETE, _OVERFLOW = 1, 2, 8, 16, 32 | 64 | 128
# noise of a pixel to ignore, in units of the median noise: its square must exceed the threshold
# of the weights, 1e30, and be finite in single precision
_BAD_NOISE = 1e18
_COLUMNS = (
    'NUMBER',
    'X_IMAGE',
    'Y_IMAGE',
    'A_IMAGE',
    'B_IMAGE',
    'THETA_IMAGE',
    'KRON_RADIUS',
    'FLUX_AUTO',
    'FLUXERR_AUTO',
    'FLAGS',
)


class SExtractorFluxEstimator(AutoFluxEstimator):
    """
    FLUX_AUTO [1]_ [2]_ of the galaxy, by the program SExtractor.

    Each cutout is written to a temporary folder, the program is run there (which takes some
    10 ms to start, so that `SEPFluxEstimator` is faster), and its catalogue is read. It needs
    the program: the Debian package ``source-extractor``, or ``astromatic-source-extractor`` of
    conda-forge.

    Parameters
    ----------
    nsigma : float, optional
        Detection threshold in units of the noise of a pixel (DETECT_THRESH, ANALYSIS_THRESH).

    npixels : int, optional
        How many connected pixels above the threshold make a source (DETECT_MINAREA).

    deblend : bool, optional
        Whether to split sources.

    nlevels : int, optional
        Number of levels of the deblending (DEBLEND_NTHRESH).

    contrast : float, optional
        Fraction of the flux that a part must have to become a source (DEBLEND_MINCONT).

    auto_params : tuple of float, optional
        Factor on the Kron radius, and the least radius after that, in units of the semimajor
        axis (PHOT_AUTOPARAMS).

    min_radius : float, optional
        An ellipse whose mean radius is smaller than this many pixels is replaced by a circle of
        this radius (half of the second of PHOT_AUTOAPERS).

    neighbours : {'correct', 'mask', 'none'}, optional
        What becomes of the pixels of other sources within the ellipse: replaced by those
        opposite, left out, or summed all the same (MASK_TYPE CORRECT, BLANK, NONE).

    kernel_fwhm : float, optional
        FWHM of the Gaussian filter of the detection in pixels (10 at most); by default that of
        the PSF, or SExtractor's default filter of 3 by 3 pixels if it is unknown. 0 for none.

    match_radius : float, optional
        If no source covers the position, the nearest one within this many pixels is taken.

    executable : str, optional
        Name or path of the program; by default ``source-extractor`` or ``sex``, whichever is
        found first on the PATH.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    The defaults are those of SExtractor's ``default.sex``, with these differences: the noise is
    given (WEIGHT_TYPE MAP_RMS); the background is 0 (BACK_TYPE MANUAL), as cutouts are
    sky-subtracted; masked pixels are not filled before the detection (INTERP_TYPE NONE), but
    treated as those of neighbours are; the filter fits the PSF, where that is known, as the
    manual advises.

    `measure` adds the columns ``kron_radius`` (in units of the semimajor axis of the source's
    second moments), ``semimajor_axis`` (of the aperture) and ``axis_ratio``.

    References
    ----------
    .. [1] Bertin, E. & Arnouts, S. 1996, A&AS, 117, 393
    .. [2] Kron, R. G. 1980, ApJS, 43, 305

    Examples
    --------
    >>> from astroflux import SExtractorFluxEstimator
    >>> estimator = SExtractorFluxEstimator()
    >>> estimator.measure(cutouts)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.005,
        auto_params=(2.5, 3.5),
        min_radius=1.75,
        neighbours='correct',
        kernel_fwhm=None,
        match_radius=5.0,
        executable=None,
    ):
        super().__init__(
            nsigma=nsigma,
            npixels=npixels,
            deblend=deblend,
            nlevels=nlevels,
            contrast=contrast,
            auto_params=auto_params,
            min_radius=min_radius,
            neighbours=neighbours,
            kernel_fwhm=kernel_fwhm,
            match_radius=match_radius,
        )
        self.executable = executable

    def _check_params(self):
        super()._check_params()
        _find_program(self.executable)

    def _more_meta(self):
        run = _run(_find_program(self.executable), '--version')
        return {'program': run.stdout.strip()}

    def _find(self, data, noise, mask, kernel, position):
        if mask is not None:
            noise = np.where(mask, _BAD_NOISE, noise)
        with TemporaryDirectory(prefix='astroflux-') as folder:
            folder = Path(folder)
            fits.writeto(folder / 'image.fits', data.astype(np.float32))
            fits.writeto(folder / 'rms.fits', noise.astype(np.float32))
            (folder / 'columns.param').write_text('\n'.join(_COLUMNS) + '\n')
            if kernel is not None:
                (folder / 'filter.conv').write_text(_format_kernel(kernel))
            settings = self._settings(data.size, kernel)
            text = '\n'.join(f'{name} {value}' for name, value in settings.items())
            (folder / 'config.sex').write_text(text + '\n')
            program = _find_program(self.executable)
            run = _run(program, 'image.fits', '-c', 'config.sex', folder=folder)
            if run.returncode:
                lines = ' '.join((run.stderr or run.stdout).split())
                msg = f"'{program}' failed with code {run.returncode}: {lines}"
                raise MeasurementError(MeasurementFlag.FAILED, msg)
            labels = fits.getdata(folder / 'labels.fits')
            catalog = fits.getdata(folder / 'catalog.fits')
        label = find_label(labels, position, self.match_radius)
        row = catalog[catalog['NUMBER'] == label][0]

        bits, flags = int(row['FLAGS']), 0
        if bits & (_CROWDED | _DEBLENDED):
            flags |= int(MeasurementFlag.NEIGHBOUR)
        if bits & (_TRUNCATED | _INCOMPLETE | _OVERFLOW):
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        return AutoSource(
            flux=float(row['FLUX_AUTO']),
            flux_err=float(row['FLUXERR_AUTO']),
            # SExtractor counts from 1
            x=float(row['X_IMAGE']) - 1,
            y=float(row['Y_IMAGE']) - 1,
            a=float(row['A_IMAGE']),
            b=float(row['B_IMAGE']),
            theta=np.radians(float(row['THETA_IMAGE'])),
            radius=float(row['KRON_RADIUS']),
            flags=flags,
            labels=labels,
            label=label,
        )

    def _settings(self, n_pixels, kernel):
        mask_type = {'correct': 'CORRECT', 'mask': 'BLANK', 'none': 'NONE'}
        return {
            'CATALOG_NAME': 'catalog.fits',
            'CATALOG_TYPE': 'FITS_1.0',
            'PARAMETERS_NAME': 'columns.param',
            'DETECT_TYPE': 'CCD',
            'DETECT_MINAREA': self.npixels,
            'DETECT_THRESH': self.nsigma,
            'ANALYSIS_THRESH': self.nsigma,
            'FILTER': 'N' if kernel is None else 'Y',
            'FILTER_NAME': 'filter.conv',
            'DEBLEND_NTHRESH': self.nlevels,
            'DEBLEND_MINCONT': self.contrast if self.deblend else 1.0,
            'CLEAN': 'Y',
            'CLEAN_PARAM': 1.0,
            'MASK_TYPE': mask_type[self.neighbours],
            'WEIGHT_TYPE': 'MAP_RMS',
            'WEIGHT_IMAGE': 'rms.fits',
            # a masked pixel is not to be filled from those beside it before the detection
            'INTERP_TYPE': 'NONE',
            'PHOT_AUTOPARAMS': ','.join(str(float(value)) for value in self.auto_params),
            'PHOT_AUTOAPERS': f'0.0,{2 * self.min_radius}',
            # nothing is saturated, and the noise holds that of the source already
            'SATUR_LEVEL': 1e29,
            'GAIN': 0.0,
            'BACK_TYPE': 'MANUAL',
            'BACK_VALUE': 0.0,
            'CHECKIMAGE_TYPE': 'SEGMENTATION',
            'CHECKIMAGE_NAME': 'labels.fits',
            # never less than the default; every pixel of a large cutout may be detected
            'MEMORY_PIXSTACK': max(300000, n_pixels),
            'VERBOSE_TYPE': 'QUIET',
            'WRITE_XML': 'N',
            'NTHREADS': 1,
        }


def _format_kernel(kernel):
    rows = '\n'.join(' '.join(f'{value:.9g}' for value in row) for row in kernel)
    return f'CONV NORM\n# {kernel.shape[1]}x{kernel.shape[0]} filter\n{rows}\n'


def _find_program(executable):
    """
    Path of the program.

    Raises
    ------
    FileNotFoundError
        If it is not installed.
    """
    names = SEXTRACTOR_PROGRAMS if executable is None else (executable,)
    for name in names:
        if path := shutil.which(name):
            return path
    tried = ' nor '.join(f"'{name}'" for name in names)
    msg = (
        f'the program SExtractor is needed here, but there is no {tried}; install it, for '
        'instance the Debian package source-extractor, or give its path as executable'
    )
    raise FileNotFoundError(msg)


def _run(program, *arguments, folder=None):
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
        check=False,
    )
