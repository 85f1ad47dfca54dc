# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure all sources of an image, in passes: each without the light of the others."""

import numpy as np

from astroflux._progress import progress_bar
from astroflux._quiet import keep_filters
from astroflux.cutouts._stamps import ImageStamps
from astroflux.cutouts._wcs import pixel_scale
from astroflux.estimators._defaults import PASSES
from astroflux.estimators.field._blends import find_groups, shares_of_points
from astroflux.estimators.field._images import write_images
from astroflux.estimators.field._psf import with_psf
from astroflux.estimators.field._results import FieldResults, nearest_pixel
from astroflux.estimators.field._sky_model import SkyModel
from astroflux.networks.neighbors import KNOWN_MISFIT
from astroflux.networks.sersic_model import PROFILE_PARAMETERS

__all__ = ['FieldMeasurement']

# A source is measured again if the light that was taken from it has changed by this part of the
# error that its flux would have alone: that of one with neighbors may be large for these.
SETTLED = 0.25

# A stamp is at least so many half-light radii wide if these are larger than so many pixels.
STAMP_PER_RADIUS = 12.0
LARGE_RADIUS = 10.0
RADIUS = PROFILE_PARAMETERS.index('ln_radius')


class FieldMeasurement:
    """
    The sources of one image, measured together.

    In the first pass each source is measured as in a stamp of its own. The profiles that the
    network fits to them, drawn with the PSF, are a model of the image; their fluxes are solved
    for together, so that no light is counted twice. In each further pass those sources for which
    that matters are measured again without the light of all others, the nearest of which are
    fitted together with them: first those that outshine their neighbors, then the neighbors
    without the new light of these.

    Sources within a FWHM of each other are measured as one, which is divided among them as point
    sources at their positions would share the light. Each has the flag ``BLENDED``, the error of
    the whole with that of the division, and the shape of the whole.

    Parameters
    ----------
    estimator : `~astroflux.estimators.FluxEstimator`
        The method. If it is not a network that fits profiles, that of the package finds the
        models, and the method measures once, without the light of neighbors.
    image : object
        One image, as `~astroflux.estimators.FluxEstimator.measure` takes.
    catalogue : object
        Its sources: what ``positions`` may be there.
    passes : int, optional
        The most passes of the network. Those that have nothing to change are left out.
    progress : bool, optional
        As of `~astroflux.estimators.FluxEstimator.measure`.
    **options
        As of `~astroflux.estimators.FluxEstimator.measure`, but for ``positions``; ``psf`` as of
        `~astroflux.estimators.FluxEstimator.measure_field`.

    Attributes
    ----------
    psf : object
        That of the image: a `~astroflux.cutouts.PSFField` if it differs from place to place, such
        as a `~astroflux.cutouts.StarPSF`; else as given.
    n_passes : int
        How many passes there were.
    """

    def __init__(self, estimator, image, catalogue, *, passes=PASSES, progress=None, **options):
        if passes < 1:
            msg = f'passes must be 1 or more, got {passes}'
            raise ValueError(msg)
        self._estimator, self._passes, self._progress = estimator, passes, progress
        options = with_psf(image, catalogue, options)
        self.psf = options['psf']
        self._told = {**options, 'positions': catalogue}
        self._stamps = ImageStamps(image, catalogue, **options)
        self._fitter = estimator if estimator.fits_sources else _default_network()
        n = len(self._stamps)
        self._has_stamp = np.array([self._stamps.window(row) is not None for row in range(n)], bool)
        self._results = FieldResults(n)
        # which are measured as a part of another, and which have a larger stamp than before
        self._is_led, self._is_enlarged = np.zeros((2, n), bool)
        # the light that each was measured without: over its own, or the noise
        self._taken = np.zeros(n)
        self._sky = None
        self.n_passes = 0

    def __len__(self):
        return len(self._stamps)

    def run(self):
        """Measure, and return a table as `~astroflux.estimators.FluxEstimator.measure` does."""
        self._estimator._check_params()
        everything = np.arange(len(self))
        with (
            keep_filters(),
            progress_bar(
                desc='measure',
                unit=' sources',
                total=len(everything),
                progress=self._progress,
            ) as bar,
        ):
            self._bar = bar
            self._measure_first(everything)
            self.n_passes = 1
            while self.n_passes < self._passes and self._measure_again():
                self.n_passes += 1
            if self._fitter is not self._estimator:
                self._taken = self._light_of_others()
                self._measure_by_estimator(everything)
        return self._table()

    # -- passes -----------------------------------------------------------------------------------

    def _measure_first(self, rows):
        fitted = []
        for batch in self._batches(rows):
            cutouts = [self._stamps.first(row) for row in batch]
            fitted += self._measure(self._fitter, batch, cutouts)
        self._sky = SkyModel(self._stamps.data, self._stamps.weight, len(self))
        self._model(fitted)
        self._choose_leaders()
        if self._groups:
            self._sky.forget(np.flatnonzero(self._is_led))
            self._sky.solve()

    def _measure_again(self):
        """Measure those again that have changed; return whether there were any."""
        n_measured = 0
        is_outshone = self._sky.is_outshone(self._results.fwhm)
        # the light of brighter ones is right before it is taken away from the others
        for some in (~is_outshone, is_outshone):
            light = self._light_of_others()
            rows = np.flatnonzero(some & self._is_changed(light - self._taken))
            if len(rows):
                self._measure_without_others(rows)
                self._taken[rows] = light[rows]
            n_measured += len(rows)
        return n_measured > 0

    def _measure_without_others(self, rows):
        self._bar.total += len(rows)
        self._is_enlarged[rows] = False
        fitted = []
        for batch in self._batches(rows):
            neighbors = self._sky.neighbors(batch, self._results.fwhm)
            cutouts = [
                self._cutout(row, of_row) for row, of_row in zip(batch, neighbors, strict=True)
            ]
            fitted += self._measure(self._fitter, batch, cutouts)
        self._model(fitted)

    def _measure_by_estimator(self, rows):
        """Measure with a method that fits no models, without the light of the others."""
        self._bar.total += len(rows)
        self._results.forget()
        rows = rows[~self._is_led]
        for batch in self._batches(rows, getattr(self._estimator, 'batch_size', 1)):
            self._measure(self._estimator, batch, [self._cutout(row) for row in batch])

    def _batches(self, rows, size=None):
        size = size or self._fitter.batch_size
        for first in range(0, len(rows), size):
            yield rows[first : first + size]

    def _cutout(self, row, neighbors=None):
        window = self._stamps.window(row)
        if window is None:
            return self._results.place(row)
        data = self._sky.without_others(row, window)
        return self._stamps.again(row, data, neighbors)

    def _measure(self, estimator, batch, cutouts):
        """Measure some sources; return which models were fitted to which of them."""
        fitted, start = [], 0
        fit = _fit_by(estimator) if estimator is self._fitter else None
        for part, measurable, results in estimator._measure_or_fail(cutouts, fit):
            rows = batch[start : start + len(part)]
            start += len(part)
            self._results.keep_places(rows, part)
            if not measurable:
                continue
            rows, results = rows[measurable], dict(results)
            models = results.pop('models', None)
            self._results.keep(rows, results)
            if models is not None:
                fitted.append((rows, models))
        self._bar.update(len(batch))
        return fitted

    def _model(self, fitted):
        """Take over what was fitted, and solve for the fluxes of all models."""
        for rows, models in fitted:
            origins = np.zeros((len(rows), 2, 3))
            origins[:, 0, 0] = origins[:, 1, 1] = 1
            windows = [self._stamps.window(row) for row in rows]
            origins[:, :, 2] = [(columns.start, lines.start) for lines, columns in windows]
            models = models.moved(origins, np.ones(len(rows)))
            noise = np.where(self._results.is_good(rows), self._results.noise[rows], np.nan)
            self._sky.put(rows, models, noise)
            self._enlarge(rows, models.profile[:, RADIUS])
        self._sky.solve()

    def _enlarge(self, rows, ln_radius):
        """Give sources that are too large for their stamps larger ones."""
        large = np.isfinite(ln_radius) & (ln_radius > np.log(LARGE_RADIUS))
        for row, radius in zip(rows[large], np.exp(ln_radius[large]), strict=True):
            self._is_enlarged[row] = self._stamps.enlarge(row, STAMP_PER_RADIUS * radius)

    def _light_of_others(self):
        """Return the light that is taken away from each source: over its own, or the noise."""
        light, position = self._sky.light_of_others(), self._results.position
        for row in np.flatnonzero(~self._sky.is_known & self._has_stamp):
            at = nearest_pixel(position[row], self._sky.total.shape)
            light[row] = self._sky.total[at] / self._results.noise[row]
        return light

    def _is_changed(self, change):
        """Return which sources are to be measured again for a change of that light."""
        change = np.abs(np.where(self._sky.is_known, change * self._sky.snr, change))
        return self._has_stamp & ~self._is_led & ((change > SETTLED) | self._is_enlarged)

    # -- sources within a FWHM of each other ------------------------------------------------------

    def _choose_leaders(self):
        """Choose which source of each group is measured for all of them."""
        position = np.where(self._has_stamp[:, None], self._results.position, np.nan)
        self._groups = find_groups(position, self._results.fwhm)
        for number, group in enumerate(self._groups):
            apart = np.full(len(group), np.inf)
            if self._sky.models is not None:
                fitted = self._sky.models.profile[group, 1:3]
                apart = np.nan_to_num(np.hypot(*(fitted - position[group]).T), nan=np.inf)
            # the one first that is nearest to the middle of the light
            self._groups[number] = group[np.argsort(apart, kind='stable')]
            self._is_led[self._groups[number][1:]] = True

    def _divide(self):
        """Divide what was measured of each group among its sources."""
        for group in self._groups:
            if self._results.is_measured[group[0]]:
                self._results.divide(group, *self._shares(group))
            else:
                self._results.fail(group)

    def _shares(self, group):
        leader = group[0]
        if not self._sky.is_known[leader]:
            return np.full(len(group), 1 / len(group)), np.ones(len(group))
        window = self._stamps.window(leader)
        data = self._sky.without_others(leader, window)
        corner = (window[1].start, window[0].start)
        return shares_of_points(
            np.where(self._sky.weight[window] > 0, data, 0),
            self._results.noise[leader],
            self._results.position[group] - corner,
            self._sky.models[[leader]],
            self._results.fwhm[leader],
        )

    # -- the table --------------------------------------------------------------------------------

    def _table(self):
        self._doubt_neighbors()
        self._divide()
        rows = self._results.rows(self._estimator._extra_units)
        table = self._estimator._table(rows, self._told)
        table.meta['field'] = {'neighbors': 'model', 'passes': self.n_passes}
        return table

    def _doubt_neighbors(self):
        """Add to the errors what the light that was taken away may be wrong by."""
        light = np.where(self._sky.is_known, np.abs(self._taken), 0)
        rows = np.flatnonzero(self._results.is_measured & (light > 0))
        if len(rows):
            flux = np.abs(self._results.column('flux')[rows])
            self._results.widen(rows, KNOWN_MISFIT * light[rows] * flux)

    # -- images -----------------------------------------------------------------------------------

    @property
    def model(self):
        """The light of all sources, 2D in the unit of the fluxes; after `run`."""
        return self._sky.total

    @property
    def residual(self):
        """What is left of the image without it; 0 where pixels cannot be used."""
        residual = self._sky.data - self._sky.total
        residual[self._sky.weight == 0] = 0
        return residual

    @property
    def weight(self):
        """Inverse variance of each pixel, estimated if no noise is given; 0 if it is not used."""
        weight = self._sky.weight
        noise = self._results.noise[np.isfinite(self._results.noise)]
        if self._stamps.has_noise or not len(noise):
            return weight
        return weight / np.float32(np.median(noise)) ** 2

    @property
    def fwhm(self):
        """FWHM of the PSF at each source, in pixels; NaN where it is unknown."""
        return self._results.fwhm

    @property
    def pixel_scale(self):
        """Side of a pixel in the middle of the image, in arcsec; NaN where it is unknown."""
        ny, nx = self._sky.data.shape
        return pixel_scale(self._stamps.wcs, (nx / 2, ny / 2))

    def write_images(self, path, *, overwrite=False):
        """
        Write `model` and `residual` to a FITS file with the HDUs MODEL and RESIDUAL; after `run`.

        Both have the WCS of the image, and the unit of the fluxes. The primary header tells how
        they were made.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file to write. It is compressed, without loss, if its name ends in ``.fz`` (tiles)
            or ``.gz``. It is whole or not there.
        overwrite : bool, optional
            Whether an existing file may be replaced.

        Raises
        ------
        OSError
            If the file exists, unless ``overwrite``; or is a symbolic link or read-only.
        """
        keywords = {
            'NSOURCES': (len(self._stamps), 'how many sources there are'),
            'NMODELS': (int(self._sky.is_known.sum()), 'how many of them have a model'),
            'NPASSES': (self.n_passes, 'how often the sources were fitted'),
        }
        if self._stamps.label:
            keywords['IMAGE'] = (self._stamps.label, 'what was measured')
        write_images(
            path,
            {'MODEL': self.model, 'RESIDUAL': self.residual},
            unit=self._stamps.unit,
            wcs=self._stamps.wcs,
            record=self._estimator._record(self._told) | {'keywords': keywords},
            overwrite=overwrite,
        )


def _default_network():
    from astroflux.estimators.cnn import CNNFluxEstimator

    return CNNFluxEstimator()


def _fit_by(estimator):
    """Return how a batch is measured by an estimator that tells what it has fitted, too."""

    def fit(cutouts):
        results, models = estimator.fit_sources(cutouts)
        return results | {'models': models}

    return fit
