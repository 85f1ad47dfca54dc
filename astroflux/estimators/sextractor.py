# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor, by its library sep and by the program itself."""

import shutil
import subprocess
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux._optional import import_optional
from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._segments import (
    check_params,
    find_label,
    gaussian_kernel,
    neighbour_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['SEPFluxEstimator', 'SExtractorFluxEstimator']
__doctest_requires__ = {('SEPFluxEstimator',): ['sep']}

# SExtractor's default.conv
_DEFAULT_KERNEL = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
# SExtractor reads no larger kernel (1024 values)
_MAX_KERNEL_FWHM = 10.0
# Kron's radius is measured in an ellipse of this many semimajor axes
_KRON_EXTENT = 6.0

# names of the program, Debian's first
_PROGRAMS = ('source-extractor', 'sex')
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


@dataclass(slots=True, eq=False)
class _Source:
    """What either implementation finds of the galaxy; lengths in pixels, angle in radians."""

    flux: float
    flux_err: float
    x: float
    y: float
    a: float
    b: float
    theta: float
    radius: float  # of the aperture, in units of a
    flags: int
    labels: np.ndarray
    label: int


class _AutoFluxEstimator(PhotometricEstimator):
    """What the two implementations share."""

    _extra_units = {'kron_radius': None, 'semimajor_axis': 'pix', 'axis_ratio': None}

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
    ):
        self.nsigma = nsigma
        self.npixels = npixels
        self.deblend = deblend
        self.nlevels = nlevels
        self.contrast = contrast
        self.auto_params = auto_params
        self.min_radius = min_radius
        self.neighbours = neighbours
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def _check_params(self):
        check_params(self)

    @abstractmethod
    def _find(self, data, noise, mask, kernel, position):
        """
        Find and measure the source at the position.

        Parameters
        ----------
        data, noise : `~numpy.ndarray`, shape (ny, nx)
            The image and its noise in units of the median noise.

        mask : `~numpy.ndarray` of bool or None
            `True` for pixels to ignore.

        kernel : `~numpy.ndarray` or None
            The filter of the detection.

        position : tuple of float
            Where.

        Returns
        -------
        source : `_Source`
        """

    def _measure_one(self, cutout):
        # in units of the noise, so that the unit and the scale of the data do not matter
        reference = float(np.median(cutout.noise))
        source = self._find(
            np.ascontiguousarray(cutout.data / reference),
            np.ascontiguousarray(cutout.noise / reference),
            cutout.mask if cutout.mask.any() else None,
            self._kernel(cutout.psf_fwhm),
            cutout.position,
        )
        if not np.isfinite([source.flux, source.a, source.b, source.radius]).all():
            msg = 'the Kron radius or the flux is not finite'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        centre = (source.x, source.y)
        major, minor = source.a * source.radius, source.b * source.radius
        if self._is_small(source.a, source.b, source.radius):
            major = minor = self.min_radius
            aperture = CircularAperture(centre, r=major)
        else:
            aperture = EllipticalAperture(centre, a=major, b=minor, theta=source.theta)
        return {
            'flux': source.flux * reference,
            'flux_err': source.flux_err * reference,
            'flags': source.flags | neighbour_flag(aperture, source.labels, source.label),
            'kron_radius': source.radius / self.auto_params[0],
            'semimajor_axis': major,
            'axis_ratio': minor / major,
        }

    def _is_small(self, a, b, radius):
        """Whether the least circle takes the place of the ellipse."""
        return radius * np.sqrt(a * b) < self.min_radius

    def _kernel(self, psf_fwhm):
        fwhm = self.kernel_fwhm
        if fwhm == 0:
            return None
        if fwhm is None and not np.isfinite(psf_fwhm):
            return _DEFAULT_KERNEL
        return gaussian_kernel(min(float(fwhm or psf_fwhm), _MAX_KERNEL_FWHM)).array


class SEPFluxEstimator(_AutoFluxEstimator):
    """
    SExtractor's FLUX_AUTO [1]_ [2]_ of the galaxy, by its library sep [3]_.

    Connected pixels above a threshold in the filtered image make sources, which are deblended
    and cleaned; the pixels whose centre lies in the Kron ellipse of the source at the position
    are summed. It needs the package sep, which the extra ``compare`` installs.

    Parameters
    ----------
    nsigma : float, optional
        Detection threshold in units of the noise of a pixel (DETECT_THRESH).

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
        this radius.

    neighbours : {'correct', 'mask', 'none'}, optional
        What becomes of the pixels of other sources within the ellipse: replaced by those
        opposite, left out, or summed all the same (MASK_TYPE). Masked pixels are replaced by
        those opposite with ``'correct'``, else left out.

    kernel_fwhm : float, optional
        FWHM of the Gaussian filter of the detection in pixels (10 at most); by default that of
        the PSF, or SExtractor's default filter of 3 by 3 pixels if it is unknown. 0 for none.

    filter_type : {'matched', 'conv'}, optional
        Whether the threshold is in units of the noise of the filtered image, as sep does by
        default when it is given the noise, or of that of a pixel of the image, as the program
        does. The former goes deeper by the factor by which the filter averages.

    match_radius : float, optional
        If no source covers the position, the nearest one within this many pixels is taken.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    The defaults are those of sep, which are those of SExtractor (its ``default.sex``) but for
    the matched filter: it finds the wings of the galaxy better, so that the ellipse is larger
    and less light is missed. The recipe is that of the documentation of sep ("Equivalent of
    FLUX_AUTO"), with the least radius applied and the neighbours replaced as the program does,
    which sep leaves to its user. With ``filter_type='conv'`` the fluxes are those of
    `SExtractorFluxEstimator`.

    `measure` adds the columns ``kron_radius`` (in units of the semimajor axis of the source's
    second moments), ``semimajor_axis`` (of the aperture) and ``axis_ratio``.

    References
    ----------
    .. [1] Bertin, E. & Arnouts, S. 1996, A&AS, 117, 393
    .. [2] Kron, R. G. 1980, ApJS, 43, 305
    .. [3] Barbary, K. 2016, Journal of Open Source Software, 1(6), 58

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import SEPFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))
    >>> SEPFluxEstimator().predict(ccd).round(1)
    <Quantity 499. adu>
    """

    _packages = ('photutils', 'sep')

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
        filter_type='matched',
        match_radius=5.0,
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
        self.filter_type = filter_type

    def _check_params(self):
        super()._check_params()
        if self.filter_type not in ('conv', 'matched'):
            msg = f"filter_type must be 'matched' or 'conv', got {self.filter_type!r}"
            raise ValueError(msg)
        import_optional('sep', extra='compare')

    def _find(self, data, noise, mask, kernel, position):
        try:
            return self._find_by_sep(data, noise, mask, kernel, position)
        except Exception as exc:
            # what sep cannot do, such as deblending too many parts, it tells by a bare Exception
            if type(exc) is not Exception:
                raise
            raise MeasurementError(MeasurementFlag.FAILED, f'sep: {exc}') from exc

    def _find_by_sep(self, data, noise, mask, kernel, position):
        sep = import_optional('sep', extra='compare')
        objects, labels = sep.extract(
            data,
            self.nsigma,
            err=noise,
            mask=mask,
            minarea=int(self.npixels),
            filter_kernel=kernel,
            filter_type=self.filter_type,
            deblend_nthresh=int(self.nlevels),
            deblend_cont=float(self.contrast) if self.deblend else 1.0,
            segmentation_map=True,
        )
        label = find_label(labels, position, self.match_radius)
        found = objects[label - 1 : label]
        # arrays of one value, as not all functions of sep take scalars
        x, y, a, b, theta = (found[name] for name in ('x', 'y', 'a', 'b', 'theta'))

        unusable = np.zeros(data.shape, bool) if mask is None else mask
        if self.neighbours != 'none':
            unusable = unusable | ((labels != 0) & (labels != label))
        data, noise = (
            _fill(image, unusable, x[0], y[0], self.neighbours) for image in (data, noise)
        )
        factor, least = self.auto_params
        kron_radius, _ = sep.kron_radius(data, x, y, a, b, theta, _KRON_EXTENT)
        radius = np.maximum(factor * kron_radius, least)
        # whole pixels, as in the program
        if self._is_small(a[0], b[0], radius[0]):
            sums = sep.sum_circle(data, x, y, self.min_radius, err=noise, subpix=1)
        else:
            sums = sep.sum_ellipse(data, x, y, a, b, theta, radius, err=noise, subpix=1)
        flux, flux_err, aperture_flags = sums

        flags = 0
        if found['flag'][0] & sep.OBJ_MERGED:
            flags |= int(MeasurementFlag.NEIGHBOUR)
        if found['flag'][0] & sep.OBJ_TRUNC or aperture_flags[0] & sep.APER_TRUNC:
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        numbers = (float(values[0]) for values in (flux, flux_err, x, y, a, b, theta, radius))
        return _Source(*numbers, flags=flags, labels=labels, label=label)


class SExtractorFluxEstimator(_AutoFluxEstimator):
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
        return _Source(
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


def _fill(image, unusable, x, y, neighbours):
    """Replace unusable pixels by those opposite, or by 0 where these are unusable, too."""
    if not unusable.any():
        return image
    image = np.where(unusable, 0.0, image)
    if neighbours != 'correct':
        return image
    ny, nx = image.shape
    rows, columns = np.nonzero(unusable)
    # rounded as in the program
    opposite = (
        np.floor(2 * y + 0.49999 - rows).astype(int),
        np.floor(2 * x + 0.49999 - columns).astype(int),
    )
    inside = (opposite[0] >= 0) & (opposite[0] < ny) & (opposite[1] >= 0) & (opposite[1] < nx)
    # an unusable pixel is 0 by now
    image[rows[inside], columns[inside]] = image[opposite[0][inside], opposite[1][inside]]
    return image


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
    names = _PROGRAMS if executable is None else (executable,)
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
