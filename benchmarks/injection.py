# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies put into a real field of HSC, and whether a recalibration by them holds.

    python benchmarks/injection.py --write

puts galaxies into the r field of the folder ``ASTROFLUX_REAL_DATA``: those of the test set ``sky``,
to compare what comes out with the rows of that set, measured with neighbors as they are, as there,
and with neighbors modelled; and two sets of different seeds that are like the sources of the
field, of which the first one makes a recalibration, and the second one tells if it holds.
"""

import os
from pathlib import Path

import galsim
import numpy as np
from astropy import units as u
from astropy.table import Table
from report import DOCS, command_line, put_out, rst_table
from set_sources import blank_places, real_field
from sets import REAL_DATA, SETS
from tables import REFERENCE

from astroflux import read_cutout
from astroflux.cutouts._psf import fwhm_of_image
from astroflux.estimators import FieldDetector, Recalibration
from astroflux.evaluation import InjectionResult, inject_galaxies, summarize_by
from astroflux.simulation import draw_psf

__all__ = ['read_field', 'star_fwhm']

RUNS = Path(__file__).parents[1] / '.runs' / 'injection'

# Where the brightest stars of the field are that are not saturated, which tell its PSF.
STARS = ((406, 375), (61, 194), (212, 116))
STAR_RADIUS = 10

# The set `sky` has galaxies of this PSF.
SKY = SETS['sky'].source(1).simulation
SKY_FWHM, SKY_BETA = SKY.psfs.fwhm[0], SKY.psfs.moffat_beta[0]

# Of what is like the sources of the field.
SNR_BINS = (5.0, 10.0, 30.0, 100.0, 3000.0)
# The sets of galaxies: their seed, what becomes of the light of neighbors, and how many times more
# of them there are: a coverage of 2,000 galaxies has an error of 1 %.
RUNS_OF = {
    'sky-none': (90030, 'none', 1),
    'sky-model': (90030, 'model', 1),
    'first': (90031, 'model', 2),
    'second': (90032, 'model', 2),
}


def read_field():
    """Return the field."""
    return read_cutout(Path(os.environ[REAL_DATA]) / 'hsc_r_field.fits')


def star_fwhm(ccd):
    """Return the median FWHM of the stars, in pixels."""
    windows = (
        np.s_[y - STAR_RADIUS : y + STAR_RADIUS + 1, x - STAR_RADIUS : x + STAR_RADIUS + 1]
        for x, y in STARS
    )
    return float(np.median([fwhm_of_image(ccd.data[window]) for window in windows]))


def inject(name, n, *, resume):
    """Return the result of a set of galaxies, as it was measured before if asked to."""
    seed, neighbors, times = RUNS_OF[name]
    path = RUNS / f'{name}-{times * n}.ecsv'
    if resume and path.exists():
        return InjectionResult.read(path)
    ccd = read_field()
    fwhm = star_fwhm(ccd)
    options = {'psf_fwhm': fwhm}
    if name.startswith('sky'):
        moffat = galsim.Moffat(beta=SKY_BETA, fwhm=SKY_FWHM)
        options = {'psf': draw_psf(moffat, SKY.survey.pixel_scale), 'population': SKY.galaxies}
    sources = FieldDetector().detect(ccd, psf_fwhm=fwhm)
    options |= {'seed': seed, 'neighbors': neighbors, 'n': times * n}
    result = inject_galaxies(ccd, sources, **options)
    RUNS.mkdir(parents=True, exist_ok=True)
    result.write(path, overwrite=True)
    return result


def places_of(result):
    """Return which galaxies are where the set ``sky`` puts them, or where it does not."""
    x, y = (np.round(result.table[name].value).astype(int) for name in ('x', 'y'))
    is_blank = blank_places()[y, x]
    as_in_sky = np.zeros(is_blank.shape, bool)
    allowed = {tuple(place) for place in real_field().places.tolist()}
    as_in_sky[:] = [place in allowed for place in zip(y.tolist(), x.tolist(), strict=True)]
    return {
        'places of that set': as_in_sky,
        'blank, near the edge': is_blank & ~as_in_sky,
        'near a source': ~is_blank,
    }


def cells(row):
    """Return bias, scatter and coverage as texts."""
    return [
        f'{100 * row[name]:{sign}.1f} ± {100 * row[f"{name}_err"]:.1f}'
        for name, sign in (
            ('bias', '+'),
            ('scatter', ''),
            ('outliers', ''),
            ('coverage_68', ''),
            ('coverage_95', ''),
        )
    ]


HEAD = ('bias [%]', 'scatter [%]', 'off by > 30 % [%]', 'in 68 % [%]', 'in 95 % [%]')


def sky_rows(results):
    """Compare with what the test set ``sky`` has."""
    expected = Table.read(DOCS / 'sky.csv', format='ascii.csv')
    for row in expected[expected['method'] == REFERENCE]:
        yield ['test set sky', '', f'{row["low"]:g}-{row["high"]:g}', str(row['n']), *cells(row)]
    for place in places_of(results['none']):
        for neighbors, result in results.items():
            chosen = places_of(result)[place]
            snr, errors = np.asarray(result.table['true_snr'])[chosen], result.errors[chosen]
            for row in summarize_by(snr, SETS['sky'].snr_bins, errors):
                span = f'{row["low"]:g}-{row["high"]:g}'
                yield [f'injected: {place}', neighbors, span, str(row['n']), *cells(row)]


def recalibrated_rows(first, second):
    """Tell how the second set does without and with the recalibration by the first one."""
    recalibration = Recalibration.from_injection(first)
    corrected = InjectionResult(recalibration.apply(second.table))
    for label, result in (('as measured', second), ('recalibrated', corrected)):
        for rows in (result.summary('snr', edges=SNR_BINS), result.summary(None)):
            for row in rows:
                span = f'{row["low"]:g}-{row["high"]:g}' if np.isfinite(row['low']) else 'all'
                yield [label, span, str(row['n']), *cells(row)]


def main():
    """Run from the command line."""
    parser = command_line(__doc__, n=(1000, 'galaxies of each set'))
    parser.add_argument('--resume', action='store_true', help='use sets that were measured before')
    arguments = parser.parse_args()
    results = {name: inject(name, arguments.n, resume=arguments.resume) for name in RUNS_OF}
    print(f'FWHM of the stars: {star_fwhm(read_field()) * u.pix:.2f}')
    of_sky = {name: results[f'sky-{name}'] for name in ('none', 'model')}
    text = rst_table(['galaxies', 'neighbors', 'S/N', 'n', *HEAD], list(sky_rows(of_sky)))
    put_out(text, 'injection-sky', write=arguments.write)
    rows = recalibrated_rows(results['first'], results['second'])
    text = rst_table(['errors', 'S/N', 'n', *HEAD], list(rows))
    put_out(text, 'injection', write=arguments.write)


if __name__ == '__main__':
    main()
