# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Made-up comparisons of methods, with and without truth."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, vstack

from astroflux.evaluation import Comparison, ExtremeCase, derive_parameters, flux_errors

N_CUTOUTS = 300

# key -> label, bias, factor of the scatter over the bound, factor of the errors that are given
METHODS = {
    'cnn': ('CNN', -0.005, 1.15, 1.0),
    'kron': ('Kron', -0.09, 1.7, 0.6),
    'sersic': ('Sersic fit', 0.02, 1.4, 0.8),
    'aperture': ('Aperture 3 FWHM', -0.25, 2.5, np.nan),
}


def make_truth(n, rng):
    snr = np.exp(rng.uniform(np.log(4), np.log(3000), n))
    single = rng.random(n) < 0.7
    neighbour = rng.random(n) < 0.4
    truth = QTable(
        {
            'flux': 40 * snr * rng.lognormal(0, 0.5, n) * u.nJy,
            'snr': snr,
            'n_components': np.where(single, 1, 2),
            'sersic_index_1': rng.uniform(0.5, 6, n),
            'bulge_to_total': rng.uniform(0, 1, n),
            'axis_ratio_1': rng.uniform(0.2, 1, n),
            'half_light_radius': rng.lognormal(-0.5, 0.6, n) * u.arcsec,
            'psf_fwhm': np.full(n, 0.7) * u.arcsec,
            'neighbour_distance': np.where(neighbour, rng.uniform(1.2, 4, n), np.nan) * u.arcsec,
            'neighbour_flux_ratio': np.where(neighbour, rng.uniform(0.1, 2, n), np.nan),
            'bound': np.where(rng.random(n) < 0.9, np.hypot(1 / snr, 0.01), np.nan),
        }
    )
    truth['magnitude'] = truth['flux'].to(u.ABmag).value
    return derive_parameters(truth)


def measure(method, truth, rng):
    """What a method measures: biased for large galaxies, and without flux for some faint ones."""
    _, bias, factor, err_factor = METHODS.get(method, METHODS['cnn'])
    n = len(truth)
    size = np.log(truth['size_over_fwhm'])
    spread = factor * np.hypot(1 / np.asarray(truth['snr']), 0.01)
    ln_ratio = bias * (1 + 0.5 * size) + spread * rng.standard_t(4, n)
    flux = truth['flux'] * np.exp(ln_ratio)
    failed = (rng.random(n) < 0.2) & (truth['snr'] < 10)
    flux[failed] = np.nan
    flux_err = spread * err_factor * flux
    flags = np.where(failed, 32768, np.where(rng.random(n) < 0.3, 128 + 4, 0))
    return QTable(
        {
            'method': np.full(n, method),
            'cutout': np.arange(n),
            'name': [f'galaxy_{i:04d}.fits' for i in range(n)],
            'flux': flux,
            'flux_err': flux_err,
            'flux_lower': flux - flux_err,
            'flux_upper': flux + flux_err,
            'snr': (flux / flux_err).value,
            'flags': flags,
        }
    )


def draw_cutout(snr, size, axis_ratio, rng, side=40):
    y, x = np.indices((side, side)) - side / 2
    radius = np.hypot(x / axis_ratio, y) / (3 * size)
    model = np.exp(-1.7 * radius)
    model *= snr / np.sqrt(np.sum(model**2))
    image = model + rng.normal(size=(side, side))
    mask = np.hypot(x - 12, y - 9) < 5
    image[mask] = 0
    return image, mask


def find_extremes(table, truth, rng, n_worst):
    reference = truth['flux'][table['cutout']]
    ln_ratio = np.log((table['flux'] / reference).value)
    order = np.argsort(-np.where(np.isfinite(ln_ratio), np.abs(ln_ratio), 0))
    # a failure, if there is one, and the largest errors
    failures = np.flatnonzero(~np.isfinite(ln_ratio))[:1]
    cases = []
    for row in [*failures, *order][:n_worst]:
        details = {
            name: float(truth[name][table['cutout'][row]])
            for name in ('snr', 'sersic_index', 'size_over_fwhm', 'axis_ratio')
        }
        image, mask = draw_cutout(
            details['snr'], details['size_over_fwhm'], details['axis_ratio'], rng
        )
        failed = not np.isfinite(ln_ratio[row])
        cases.append(
            ExtremeCase(
                cutout=int(table['cutout'][row]),
                name=str(table['name'][row]),
                image=image,
                mask=mask,
                noise=1.0,
                flux=table['flux'][row],
                flux_err=table['flux_err'][row],
                reference=reference[row],
                ln_ratio=float(ln_ratio[row]),
                flags=('NOT_DETECTED',) if failed else ('MASKED_PIXELS', 'NEIGHBOUR'),
                details=details,
            )
        )
    return cases


def make_comparison(labels=None, *, n=N_CUTOUTS, n_of=None, n_worst=4, title='Made-up galaxies'):
    """
    Make up a comparison with truth.

    ``labels`` maps methods to labels; methods that are not in `METHODS` do as the CNN does.
    ``n_of`` is the number of cutouts of methods that have not all of them.
    """
    rng = np.random.default_rng(5)
    labels = {key: value[0] for key, value in METHODS.items()} if labels is None else labels
    n_of = n_of or {}
    truth = make_truth(n, rng)
    tables, extremes, speed = [], {}, []
    for i, method in enumerate(labels):
        table = measure(method, truth[: n_of.get(method, n)], rng)
        errors = flux_errors(table, truth['flux'][: len(table)])
        for name in errors.colnames:
            table[name] = errors[name]
        tables.append(table)
        extremes[method] = find_extremes(table, truth, rng, n_worst)
        speed.append((method, len(table), len(table) * 0.0003 * 7.0**i))
    return Comparison(
        title=title,
        labels=labels,
        measurements=vstack(tables),
        truth=truth,
        speed=QTable(rows=speed, names=('method', 'n', 'cpu_time'), units=(None, None, u.s)),
        extremes=extremes,
        meta={
            'date': '2026-01-31T12:00:00',
            'call': 'astroflux compare --set test --methods cnn,kron,sersic,aperture',
            'versions': {'astroflux': '0.1', 'numpy': '2.4', 'photutils': '3.0'},
            'seed': 7,
            'weights': None,
        },
    )


def without_truth(comparison):
    """The same comparison as if of real data."""
    measurements = comparison.measurements.copy()
    measurements.remove_columns(['ln_error', 'covered_68', 'covered_95', 'pull'])
    extremes = {
        method: [replace(case, details={}, name=f'real {case.name}') for case in cases]
        for method, cases in comparison.extremes.items()
    }
    return replace(
        comparison,
        title='Real galaxies',
        measurements=measurements,
        truth=None,
        extremes=extremes,
    )


@pytest.fixture(scope='session')
def make():
    """The maker of comparisons."""
    return make_comparison


@pytest.fixture(scope='session')
def comparison():
    """Four methods on 300 galaxies with truth; the last one has 120 of them, and no errors."""
    return make_comparison(n_of={'aperture': 120})


@pytest.fixture(scope='session')
def truthless(comparison):
    """The same without truth."""
    return without_truth(comparison)
