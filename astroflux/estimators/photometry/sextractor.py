# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor, by the program itself."""

import shutil
import subprocess  # nosec B404
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits

from astroflux.estimators._docs import share_docs
from astroflux.estimators.methods import SEXTRACTOR_PROGRAMS
from astroflux.estimators.photometry._auto import AutoFluxEstimator, AutoSource
from astroflux.estimators.photometry.base import MeasurementError
from astroflux.estimators.photometry.finder import find_label
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


@share_docs
class SExtractorFluxEstimator(AutoFluxEstimator):
    """
    FLUX_AUTO [1]_ [2]_ of the galaxy, by the program SExtractor.

    Each cutout is written to a temporary folder, the program is run there (which takes some
    10 ms to start, so that `SEPFluxEstimator` is faster), and its catalogue is read. It needs
    the program: the Debian package ``source-extractor``, or ``astromatic-source-extractor`` of
    conda-forge.

    Parameters
    ----------
    {auto_finder}

    {auto_params}

    executable : str, optional
        Name or path of the program; by default ``source-extractor`` or ``sex``, whichever is
        found first on the PATH. `save` leaves it out, as a file that is loaded must not say
        which program to run.

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    The defaults are those of SExtractor's ``default.sex``, with these differences: the noise is
    given (WEIGHT_TYPE MAP_RMS); the background is 0 (BACK_TYPE MANUAL), as cutouts are
    sky-subtracted; masked pixels are not filled before the detection (INTERP_TYPE NONE), but
    treated as those of neighbours are; the filter fits the PSF, where that is known, as the
    manual advises.

    {kron_columns}

    References
    ----------
    {auto_references}

    Examples
    --------
    >>> from astroflux import SExtractorFluxEstimator
    >>> estimator = SExtractorFluxEstimator()
    >>> estimator.measure(cutouts)  # doctest: +SKIP
    """

    _unsaved = ('executable',)

    def __init__(
        self,
        *,
        finder=None,
        auto_params=(2.5, 3.5),
        min_radius=1.75,
        neighbors='correct',
        executable=None,
    ):
        super().__init__(finder, auto_params, min_radius, neighbors)
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
        label = find_label(labels, position, self.finder.match_radius)
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
            'DETECT_MINAREA': self.finder.n_pixels,
            'DETECT_THRESH': self.finder.n_sigma,
            'ANALYSIS_THRESH': self.finder.n_sigma,
            'FILTER': 'N' if kernel is None else 'Y',
            'FILTER_NAME': 'filter.conv',
            'DEBLEND_NTHRESH': self.finder.n_levels,
            'DEBLEND_MINCONT': self._contrast,
            'CLEAN': 'Y',
            'CLEAN_PARAM': 1.0,
            'MASK_TYPE': mask_type[self.neighbors],
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
    """Path of the program, or a `FileNotFoundError` that says how to install it."""
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
    # no shell, and a program that the user named and no file
    return subprocess.run(  # nosec B603
        [program, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
        check=False,
    )
