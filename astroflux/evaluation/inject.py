# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Is it right on my image? Simulated galaxies are put into it, measured, and compared with the truth.

`inject_galaxies` does that, the command ``astroflux inject`` with a report.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, vstack
from scipy.spatial import KDTree

from astroflux._optional import import_optional
from astroflux._progress import progress_bar
from astroflux._sersic import enclosing_radius
from astroflux.cutouts._field_pixels import FieldPixels
from astroflux.estimators._defaults import PASSES
from astroflux.estimators._options import takes_cutout_options
from astroflux.estimators.cnn import CNNFluxEstimator
from astroflux.estimators.field import FieldMeasurement
from astroflux.estimators.field._psf import with_psf
from astroflux.evaluation._comparison_data import ExtremeCase
from astroflux.evaluation._comparison_run import EXTREME_SNR
from astroflux.evaluation._injected_image import UserImage
from astroflux.evaluation._injected_populations import galaxies_of
from astroflux.evaluation.injection_result import InjectedField, InjectionResult
from astroflux.flags import MeasurementFlag, decode_flags
from astroflux.simulation.scene import draw_source, galaxy_profile

__all__ = ['inject_galaxies']

# What counts as the area of a galaxy: a circle of so many FWHM and half-light radii. Of a round,
# the circles of two galaxies have at least as much space between them as they are wide.
FWHMS, RADII = 2.0, 3.0

# How often a place is sought for a galaxy, and how many galaxies may be too faint, one after the
# other.
TRIALS = 200
MOST_TOO_FAINT = 300

# Galaxies are drawn as far as to hold this part of their light, and no farther than so many pixels.
DRAWN_LIGHT = 0.995
FARTHEST = 250

# Of the pictures that the result keeps.
CASE_RADIUS, GAP, N_CASES = 30, 3, 12

# The measured columns that say which source it is, and where.
_OF_SOURCE = ('id', 'label', 'x', 'y', 'ra', 'dec', 'x_catalogue', 'y_catalogue')
# What detection wants to know of the image, to estimate its sky.
OF_THE_SKY = ('psf', 'oversampling', 'psf_fwhm', 'error', 'mask')

_BOX = ('bbox_xmin', 'bbox_xmax', 'bbox_ymin', 'bbox_ymax')


@takes_cutout_options(without=('positions', 'labels', 'stamp_size'))
def inject_galaxies(
    image,
    catalogue=None,
    *,
    estimator=None,
    population=None,
    n=300,
    area=0.05,
    snr_min=5.0,
    seed=0,
    moffat_beta=3.0,
    gain=None,
    detector=None,
    neighbors='model',
    passes=PASSES,
    recalibrate=None,
    zeropoint=None,
    progress=None,
    **options,
):
    """
    Put simulated galaxies into an image, measure them, and tell how good the fluxes are.

    A few galaxies at a time are put into the image at random places, near its real sources or
    not, as it happens. The image with them is measured by
    `~astroflux.estimators.FluxEstimator.measure_field`, the real sources together with the new
    ones, as it would be without them.

    Parameters
    ----------
    image
        One image, of any kind that ``measure`` takes as a cutout.
    catalogue : object, optional
        Its sources, as ``measure_field`` takes them. The new galaxies join it: completeness is
        then the fraction with a positive flux. By default the sources are detected in each image
        anew, and completeness is also a matter of detection: of the sources detected within one
        FWHM of the place of a galaxy, the nearest is that galaxy, unless a real one that is
        brighter than half of it was there before.
    estimator : `~astroflux.estimators.FluxEstimator`, optional
        The method; by default the network.
    population : `~astroflux.simulation.GalaxyPopulation` or `~astropy.table.Table`, optional
        Which galaxies. By default they have the brightness and size of the sources of the image
        that are no stars, as the network measures them, and are a little fainter. A table has the
        columns ``flux`` and ``half_light_radius`` (circularized; in the unit of the image and in
        arcsec, or in pixels without a WCS, if they have no unit), and ``sersic_index``,
        ``axis_ratio`` and ``position_angle``, if these are known.
    n : int, optional
        How many galaxies.
    area : float, optional
        Which part of the area of the image they cover at a time.
    snr_min : float, optional
        Galaxies of a lower signal-to-noise ratio at their place are left out.
    seed : int, optional
        Of all that is random.
    moffat_beta : float, optional
        Galaxies are drawn with the image of the PSF, ``psf`` or that of the image. If there is
        only ``psf_fwhm``, it stands for a Moffat profile of this exponent.
    gain : float, 2-d array or `~astropy.units.Quantity`, optional
        Electrons per unit of the pixels, if the noise map has the photons of the sources in it:
        then those of the new galaxies are added to pixels and map. With ``effective_gain``, they
        are added to the pixels, and the measurement adds them to the noise. Without both there is
        no such noise, and the metadata say so.
    detector, neighbors, passes, recalibrate, zeropoint
        As of ``measure_field``.
    progress : bool, optional
        As of ``measure``.
    **options
        As of ``measure_field``; ``psf`` and ``psf_fwhm`` are for the whole image. With
        ``psf='stars'``, the PSF is built once, from the image as it is.

    Returns
    -------
    result : `~astroflux.evaluation.InjectionResult`

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As of ``measure_field``; `ValueError` also if the PSF is not known, if there is no place
        for galaxies, or if these are too faint.
    ImportError
        If GalSim is not installed.

    Notes
    -----
    The true signal-to-noise ratio is ``sqrt(sum(model**2 / variance))`` over the usable pixels,
    with the variance that the image has at the place. The catalogue's position of a new galaxy is
    off by as much as the noise would make it: that of a detection is, too.

    Examples
    --------
    >>> from astroflux.evaluation import inject_galaxies
    >>> result = inject_galaxies(ccd, catalog, psf_fwhm=4.2, n=300)  # doctest: +SKIP
    >>> result.summary('snr')  # doctest: +SKIP
    >>> result.write_report('report')  # doctest: +SKIP
    """
    import_optional('galsim', extra='simulate')
    _check(n=n, area=area, snr_min=snr_min)
    if gain is not None and options.get('error') is not None:
        msg = 'gain changes the noise map of the image: give the noise with the image, not as error'
        raise ValueError(msg)
    own = UserImage(image, options)
    if isinstance(options.get('psf'), str):
        # a file, or the stars of the image as it is
        options = with_psf(own.with_light(None), catalogue, options)
    told = {**options, 'zeropoint': zeropoint, 'progress': False}
    without_sky = {**told, 'background': _sky(own, catalogue, detector, options)}
    if without_sky['background'] is not options.get('background'):
        own = UserImage(image, without_sky)
    psf = own.seen_through(
        options.get('psf'),
        options.get('psf_fwhm'),
        oversampling=options.get('oversampling') or 1,
        moffat_beta=moffat_beta,
    )
    estimator = CNNFluxEstimator() if estimator is None else estimator
    how = {'neighbors': neighbors, 'passes': passes, 'recalibrate': recalibrate}
    if detector is not None:
        how['detector'] = detector

    def measure(of_image, sources):
        return estimator.measure_field(of_image, sources, **how, **told)

    path = _Path(measure, own, catalogue, gain)
    network = estimator if estimator.fits_sources else CNNFluxEstimator()
    real = _real_sources(network, own, path, passes, without_sky)
    galaxies = galaxies_of(population, real.table, own, psf.fwhm)
    injection = _Injection(own, psf, galaxies, real, path, area, snr_min, seed)
    tables = injection.run(n, progress)
    meta = {
        'n': n,
        'rounds': len(tables),
        'seed': seed,
        'area': area,
        'snr_min': snr_min,
        'too_faint': injection.n_too_faint,
        'population': str(galaxies),
        'drawn_with': psf.description,
        'psf_fwhm': float(psf.fwhm),
        'photons': _photons_text(options.get('effective_gain'), gain),
        'noise': 'of the image' if own.has_noise else 'estimated from the pixels',
        'sources': 'of the catalogue' if catalogue is not None else 'detected in each image',
        'n_sources': len(real.table),
        'neighbors': neighbors,
        'image': own.label,
    }
    return injection.result(tables, meta)


class _Real(NamedTuple):
    """The sources that the image has: measured by the network, and drawn."""

    table: QTable
    model: np.ndarray


def _real_sources(network, image, path, passes, told):
    field = FieldMeasurement(network, image.with_light(None), path.real, passes=passes, **told)
    return _Real(field.run(), field.model)


def _sky(image, catalogue, detector, options):
    """Return the sky that is subtracted of the whole image, as far as it is known."""
    if catalogue is None and getattr(detector, 'background', 'none') == 'estimate':
        known = {name: value for name, value in options.items() if name in OF_THE_SKY}
        return detector._run(FieldPixels.of(image.with_light(None), **known), False)[1]
    # one that is measured in each stamp is for single ones
    background = options.get('background')
    return None if isinstance(background, str) else background


def _check(*, n, area, snr_min):
    if n < 1:
        msg = f'n must be 1 or more, got {n}'
        raise ValueError(msg)
    if not 0 < area <= 0.3:
        msg = f'area must be above 0 and 0.3 at most, as galaxies would hide others; got {area}'
        raise ValueError(msg)
    if not snr_min > 0:
        msg = f'snr_min must be positive, got {snr_min}'
        raise ValueError(msg)


def _photons_text(effective_gain, gain):
    if gain is not None:
        return 'noise of the photons of the galaxies added to pixels and noise map'
    if effective_gain is not None:
        return 'noise of the photons of the galaxies added to the pixels'
    return 'no noise of the photons of the galaxies, as the gain is not known'


class _Path:
    """
    How real and new galaxies are measured together, and the new ones found among them.

    Parameters
    ----------
    measure : callable
        Takes an image and its sources.
    image : `UserImage`
    catalogue : object or None
        `None` if sources are detected.
    gain : object
        As of `inject_galaxies`.

    Attributes
    ----------
    real : `~astropy.table.Table`
        The sources of the image, with their positions and, if known, boxes.
    """

    def __init__(self, measure, image, catalogue, gain):
        self._measure, self._image, self._gain = measure, image, gain
        self._sources = self._detected = None
        if catalogue is not None:
            self._sources = image.sources(catalogue)
            self.real = self._joined([])
            return
        self.real = self._detected = measure(image.with_light(None), None)
        if not len(self.real):
            msg = 'no source is detected in the image: give it with a catalogue'
            raise ValueError(msg)

    def measured(self, galaxies, light, fwhm, rng):
        """Return what was measured of galaxies whose light was put into the image."""
        image = self._image.with_light(light, gain=self._gain, rng=rng)
        if self._sources is not None:
            table = self._measure(image, self._joined(galaxies))
            return table[len(self._sources) :]
        table = self._measure(image, None)
        rows = _found(galaxies, table, self._detected, fwhm)
        return _rows_or_nan(table, rows)

    def _joined(self, galaxies):
        """Return the real sources and, behind them, new galaxies."""
        known = self._sources
        x = np.concatenate([known.x, [galaxy.catalogue_x for galaxy in galaxies]])
        y = np.concatenate([known.y, [galaxy.catalogue_y for galaxy in galaxies]])
        table = Table({'id': np.arange(len(x)), 'x': x, 'y': y})
        if known.extents is not None:
            extents = np.concatenate([known.extents, [galaxy.extent for galaxy in galaxies]])
            for name, sign, center in zip(_BOX, (-1, 1, -1, 1), (x, x, y, y), strict=True):
                table[name] = center + sign * (extents - 1) / 2
        return table


def _positions(table):
    return np.column_stack([u.Quantity(table[name]).value for name in ('x', 'y')])


def _found(galaxies, table, before, fwhm):
    """Return the row of each galaxy among those that were detected, -1 for none."""
    places = np.array([(galaxy.x, galaxy.y) for galaxy in galaxies])
    unit = table['flux'].unit
    distance, rows = KDTree(_positions(table)).query(places, distance_upper_bound=fwhm)
    rows = np.where(np.isfinite(distance), rows, -1)
    old = KDTree(_positions(before))
    old_flux = np.nan_to_num(before['flux'].to_value(unit))
    for number, (galaxy, place) in enumerate(zip(galaxies, places, strict=True)):
        near = old.query_ball_point(place, fwhm)
        if len(near) and old_flux[near].max() > galaxy.flux / 2:
            rows[number] = -1
    return rows


def _rows_or_nan(table, rows):
    """Return rows of a table of measurements, and one without a measurement where it is -1."""
    chosen = table[np.maximum(rows, 0)]
    lost = rows < 0
    for name in chosen.colnames:
        kind = chosen[name].dtype.kind
        if kind in 'biuf':
            chosen[name][lost] = np.nan if kind == 'f' else 0
    chosen['flags'][lost] = int(MeasurementFlag.NOT_DETECTED)
    return chosen


@dataclass
class _Galaxy:
    """A galaxy at its place; lengths in pixels, ``light`` and where it is in the image."""

    row: object
    x: float
    y: float
    flux: float
    snr: float
    neighbor_light: float
    light: np.ndarray
    where: tuple
    extent: float
    catalogue_x: float
    catalogue_y: float


class _Injection:
    """Rounds of galaxies that are put into an image and measured."""

    def __init__(self, image, psf, galaxies, real, path, area, snr_min, seed):
        self._image, self._psf, self._galaxies, self._path = image, psf, galaxies, path
        self._model, self._zeropoint = real.model, _zeropoint_of(real.table)
        model = self._model
        self._area, self._snr_min, self._seed = area * model.size, snr_min, seed
        edge = math.ceil(max(8.0, 2.5 * psf.fwhm)) + 1
        self._places = image.places(edge, psf.fwhm)
        self._cases, self._field = [], None
        self.n_too_faint = self._n_done = 0

    def run(self, n, progress):
        """Return the table of each round."""
        tables, done = [], 0
        with progress_bar(desc='inject', unit=' galaxies', total=n, progress=progress) as bar:
            while done < n:
                tables.append(self._round(len(tables), n - done))
                done += len(tables[-1])
                bar.update(len(tables[-1]))
        return tables

    def result(self, tables, meta):
        """Return all of it."""
        first = tables[0].meta
        keep = ('method', 'parameters', 'arguments', 'versions', 'weights', 'weights_sha256')
        keep += ('zeropoint', 'recalibrated', 'measured')
        record = {name: first[name] for name in keep if name in first}
        for table in tables:
            table.meta = {}
        table = vstack(tables, join_type='exact')
        table.meta = {'injection': meta, **record}
        return InjectionResult(table, first_round=self._field, cases=self._cases)

    # -- a round ----------------------------------------------------------------------------------

    def _round(self, number, most):
        rng = np.random.default_rng([self._seed, number])
        galaxies = self._placed(rng, most)
        light = np.zeros(self._image.shape)
        for galaxy in galaxies:
            light[galaxy.where] += galaxy.light
        measured = self._path.measured(galaxies, light, self._psf.fwhm, rng)
        table = self._table(number, galaxies, measured)
        self._keep_pictures(light, table)
        self._n_done += len(table)
        return table

    def _placed(self, rng, most):
        """Return galaxies at their places, none near another, until they fill their area."""
        galaxies, circles, used, n_faint = [], np.empty((0, 3)), 0.0, 0
        while len(galaxies) < most and used < self._area:
            row = self._galaxies.draw(1, rng)[0]
            radius = FWHMS * self._psf.fwhm
            radius += RADII * row['half_light_radius'] / self._image.scale
            place = self._place(circles, radius, rng)
            if place is None:
                break
            galaxy = self._galaxy(row, place, rng)
            if galaxy is None:
                n_faint += 1
                if n_faint > MOST_TOO_FAINT:
                    msg = (
                        f'the galaxies of the population are too faint: {n_faint}, one after the '
                        f'other, have a signal-to-noise ratio below {self._snr_min:g}'
                    )
                    raise ValueError(msg)
                continue
            galaxies.append(galaxy)
            self.n_too_faint += n_faint
            n_faint = 0
            circles = np.vstack([circles, [*place, radius]])
            used += math.pi * radius**2
        return galaxies

    def _place(self, circles, radius, rng):
        for _ in range(TRIALS):
            pixel = self._places[rng.integers(len(self._places))]
            place = pixel + rng.uniform(-0.5, 0.5, 2)
            distance = np.hypot(*(circles[:, :2] - place).T)
            if (distance > 2 * (circles[:, 2] + radius)).all():
                return place
        return None

    def _galaxy(self, row, place, rng):
        """Return a galaxy drawn at a place; `None` if it is too faint."""
        galsim = import_optional('galsim', extra='simulate')
        seen = galsim.Convolve(galaxy_profile(row), self._psf.at(*place))
        scale = self._image.scale
        reach = min(_reach(row) / scale + 3 * self._psf.fwhm, FARTHEST)
        light, where = draw_source(
            seen, place, math.ceil(reach), self._image.shape, scale, method=self._psf.method
        )
        power = float(np.sum(light**2 * self._image.weight[where]))
        if 'flux' in row.colnames:
            flux = float(row['flux'])
            snr = flux * math.sqrt(power)
        else:
            snr = float(row['snr'])
            flux = snr / math.sqrt(power) if power > 0 else 0.0
        if not snr >= self._snr_min or not power > 0:
            return None
        around = float(np.sum(light * self._model[where]) / (flux * np.sum(light**2)))
        width = np.hypot(self._psf.fwhm / 2.355, row['half_light_radius'] / scale / 1.18)
        off = math.sqrt(2) * width / snr * rng.standard_normal(2)
        light *= flux
        # as large as the pixels above the noise are
        bright = light * np.sqrt(self._image.weight[where]) > 1
        extent = max((np.ptp(axis) + 1 for axis in np.nonzero(bright) if len(axis)), default=np.nan)
        return _Galaxy(row, *place, flux, snr, around, light, where, extent, *(place + off))

    def _table(self, number, galaxies, measured):
        """Return the truth of galaxies and what was measured of them."""
        rows = vstack([Table(galaxy.row) for galaxy in galaxies])
        single = np.asarray(rows['n_components']) == 1
        radius = np.asarray(rows['half_light_radius'])
        flux = np.array([galaxy.flux for galaxy in galaxies])
        columns = {
            'round': np.full(len(galaxies), number),
            'x': [galaxy.x for galaxy in galaxies] * u.pix,
            'y': [galaxy.y for galaxy in galaxies] * u.pix,
            'true_flux': flux * self._image.unit,
            'true_snr': [galaxy.snr for galaxy in galaxies],
            'true_half_light_radius': radius * self._image.length_unit,
            'true_size_over_fwhm': radius / self._image.scale / self._psf.fwhm,
            'true_sersic_index': np.where(single, rows['sersic_index_1'], np.nan),
            'true_bulge_to_total': np.where(single, np.nan, rows['bulge_to_total']),
            'true_axis_ratio': np.asarray(rows['axis_ratio_1']),
            'true_neighbor_light': [galaxy.neighbor_light for galaxy in galaxies],
        }
        if math.isfinite(self._zeropoint):
            columns['true_mag'] = (self._zeropoint - 2.5 * np.log10(flux)) * u.mag
        table = QTable(columns)
        for name in measured.colnames:
            if name not in (*_OF_SOURCE, *_BOX):
                column = measured[name]
                table[name] = column.astype(float) if column.dtype.kind == 'f' else column
        table.meta = measured.meta
        return table

    def _keep_pictures(self, light, table):
        """Keep the image of the first round, and stamps of the worst measured galaxies."""
        before = self._image.data
        after = before + light
        noise = float(1 / np.sqrt(np.median(self._image.weight[self._image.weight > 0])))
        if self._field is None:
            places = np.column_stack([table['x'].value, table['y'].value])
            self._field = InjectedField(before, after, places, noise)
        unit = table['true_flux'].unit
        for number, row in enumerate(table, self._n_done):
            flux, truth = row['flux'].to_value(unit), row['true_flux'].value
            if not (flux > 0 and row['true_snr'] > EXTREME_SNR):
                continue
            center = [round(row[name].value) for name in ('y', 'x')]
            window = tuple(slice(max(c - CASE_RADIUS, 0), c + CASE_RADIUS + 1) for c in center)
            # white between them
            gap = np.full((before[window].shape[0], GAP), -10 * noise)
            pair = np.hstack([before[window], gap, after[window]]).astype(np.float32)
            case = ExtremeCase(
                cutout=number,
                name=f'x {row["x"].value:.0f}, y {row["y"].value:.0f}, round {row["round"]}',
                image=pair,
                mask=np.zeros(pair.shape, bool),
                noise=noise,
                flux=row['flux'],
                flux_err=row['flux_err'],
                reference=row['true_flux'],
                ln_ratio=math.log(flux / truth),
                flags=decode_flags(int(row['flags'])),
                details={
                    'snr': float(row['true_snr']),
                    'size_over_fwhm': float(row['true_size_over_fwhm']),
                    'neighbour_light': float(row['true_neighbor_light']),
                },
            )
            self._cases.append(case)
        self._cases.sort(key=lambda case: -abs(case.ln_ratio))
        del self._cases[N_CASES:]


def _reach(row):
    """Return how far the light of a galaxy goes, in the unit of its radius."""
    return max(
        float(row[f'half_light_radius_{number}'])
        * float(enclosing_radius(DRAWN_LIGHT, float(row[f'sersic_index_{number}'])))
        for number in range(1, int(row['n_components']) + 1)
    ) / math.sqrt(min(float(row['axis_ratio_1']), 1.0))


def _zeropoint_of(measured):
    """Return the zero point that the magnitudes of measurements tell, NaN if there are none."""
    if 'mag' not in measured.colnames:
        return math.nan
    mag = u.Quantity(measured['mag']).value
    good = np.isfinite(mag)
    if not good.any():
        return math.nan
    return float(np.median(mag[good] + 2.5 * np.log10(measured['flux'].value[good])))
