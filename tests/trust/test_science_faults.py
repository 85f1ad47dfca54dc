# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The faults of the benchmark are what their names say, and the page tells what was measured."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from astroflux.cutouts import noise_growth

pytest.importorskip('galsim')

TOP = Path(__file__).parents[2]
DOCS = TOP / 'docs'
PAGE = (DOCS / 'faults.rst').read_text()


@pytest.fixture(scope='module')
def benchmark():
    """The modules of the benchmark by name; these import each other by plain names."""
    before = set(sys.modules)
    sys.path.insert(0, str(TOP / 'benchmarks'))
    try:
        import fault_galaxies
        import fault_tables
        import faults
        import science_faults
    finally:
        sys.path.remove(str(TOP / 'benchmarks'))
    yield {
        module.__name__: module for module in (fault_galaxies, fault_tables, faults, science_faults)
    }
    for name in set(sys.modules) - before:
        if str(TOP / 'benchmarks') in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


# -- the stamps -----------------------------------------------------------------------------------

SIDE, NOISE = 143, 0.05


@pytest.fixture(scope='module')
def galaxy(benchmark, tmp_path_factory):
    (galaxy,) = benchmark['fault_galaxies'].read_galaxies(1, tmp_path_factory.mktemp('galaxies'))
    return galaxy


@pytest.fixture(scope='module')
def stamp_of(benchmark, galaxy):
    """Return the stamp of a kind of fault by its title."""
    return lambda title: benchmark['faults'].KINDS[title](galaxy, galaxy.rng)


@pytest.fixture(scope='module')
def good(stamp_of):
    return stamp_of('no fault')


@pytest.fixture(scope='module')
def added(stamp_of, good):
    """Return what a fault adds to the pixels, in units of the noise."""
    return lambda title: (stamp_of(title).data - good.data) / NOISE


def test_stamp_without_a_fault(good, galaxy):
    light = galaxy.drawn['galaxy']
    assert good.data.shape == (SIDE, SIDE)
    assert good.truth == pytest.approx(light.sum(), rel=0.02)
    assert 30 < np.sqrt(np.square(light).sum()) / NOISE < 300
    assert np.std(good.data[:40]) == pytest.approx(NOISE, rel=0.05)
    assert np.all(good.noise == NOISE)
    assert good.psf.sum() == pytest.approx(1, rel=1e-5)
    assert good.ccd.psf is good.psf


def test_galaxies_are_kept_and_the_same(benchmark, tmp_path):
    read = benchmark['fault_galaxies'].read_galaxies
    first, again = (read(1, tmp_path)[0] for _ in range(2))
    assert len([*tmp_path.iterdir()]) == 1
    assert np.array_equal(first.drawn['galaxy'], again.drawn['galaxy'])
    assert np.array_equal(first.white, again.white)


def test_other_sources(stamp_of, added, good):
    blank, star = stamp_of('blank sky'), stamp_of('star')
    assert np.isnan(blank.truth)
    assert np.std(blank.data) == pytest.approx(NOISE, rel=0.02)
    light = star.data - blank.data
    assert light.sum() == pytest.approx(star.truth, rel=0.03)
    # the sharpest that the PSF allows
    assert light.max() / light.sum() == pytest.approx(star.psf.max(), rel=0.15)
    for title, fluxes in {
        'twin at 0.5 FWHM': 1,
        'twin at 1 FWHM': 1,
        'twin at 2 FWHM': 1,
        'neighbor of 10 times the flux': 10,
    }.items():
        assert added(title).sum() == pytest.approx(fluxes * good.truth / NOISE, rel=0.05)
        assert stamp_of(title).truth == good.truth


def centroid(light):
    y, x = np.indices(light.shape)
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def test_distances_of_twins(added, galaxy):
    own = np.array([galaxy.x, galaxy.y]) + SIDE // 2
    for title, distance in {
        'twin at 0.5 FWHM': 0.5,
        'twin at 1 FWHM': 1,
        'twin at 2 FWHM': 2,
    }.items():
        away = np.hypot(*(centroid(added(title)) - own))
        assert away == pytest.approx(distance * galaxy.fwhm, abs=0.1)


def test_ends_of_the_stamp(stamp_of, galaxy):
    for title, distance in {'12 px from the edge': 12, '4 px from the edge': 4}.items():
        stamp = stamp_of(title)
        assert stamp.position == pytest.approx((distance, SIDE // 2), abs=0.5)
        y, x = np.unravel_index(np.argmax(stamp.data), stamp.data.shape)
        assert np.hypot(x - stamp.position[0], y - stamp.position[1]) < 2
    off = stamp_of('25 px off the center')
    _, x = np.unravel_index(np.argmax(off.data), off.data.shape)
    assert off.position is None
    assert abs(x - (SIDE // 2 - 25)) < 2
    large = stamp_of('larger than the stamp')
    assert large.data.shape == (41, 41)
    # half of the light is within 18 pixels, some of them in front of the corners
    assert 0.4 < large.data.sum() / large.truth < 0.7
    assert max(large.psf.shape) < 41


def test_padding(benchmark, stamp_of):
    paddings = benchmark['faults'].PADDINGS
    assert len(paddings) == 8
    for title, unpadded in paddings.items():
        stamp, before = stamp_of(title), stamp_of(unpadded)
        by = 20 if '20' in title else 60
        inner = (slice(by, -by),) * 2
        assert stamp.data.shape == (SIDE + 2 * by,) * 2
        assert np.array_equal(stamp.data[inner], before.data)
        outer = np.ones(stamp.data.shape, bool)
        outer[inner] = False
        if 'masked' in title:
            assert np.array_equal(stamp.mask, outer)
        else:
            assert stamp.mask is None
            assert np.std(stamp.data[outer]) == pytest.approx(NOISE, rel=0.1)


def test_light_and_pixels_that_are_not_the_skys(stamp_of, added, good, galaxy):
    y, x = np.indices(good.data.shape) - SIDE // 2
    radius = np.hypot(x, y)
    for title, least, most, nearest, farthest in (
        ('cosmic ray through the core', 3, 12, 0, 8),
        ('cosmic rays around', 15, 60, 5, 53),
        ('hot pixel', 1, 1, 0, 4),
    ):
        hit = added(title) != 0
        assert least <= hit.sum() <= most
        assert np.all((radius[hit] >= nearest - 1) & (radius[hit] <= farthest))
        assert added(title)[hit].min() > 19
    saturated, bleeding = (stamp_of(title).data for title in ('saturated core', 'bleed trail'))
    assert 0.09 < saturated.max() / galaxy.drawn['galaxy'].max() < 0.41
    assert np.array_equal(saturated, np.minimum(good.data, saturated.max()))
    full = bleeding == bleeding.max()
    assert 21 <= full.sum(axis=0).max() <= 81
    assert np.array_equal(bleeding[~full], saturated[~full])
    dead = stamp_of('dead columns').data
    columns = np.flatnonzero((dead == 0).all(axis=0))
    assert len(columns) == 2
    assert 2 <= columns[0] - (SIDE // 2 + galaxy.x) <= 4
    for title, nearest, farthest in (
        ('satellite through the core', 0, 1),
        ('satellite beside', 10, 20),
    ):
        trail = added(title)
        assert 4.5 < trail.max() < 30.5
        ridge = trail > 0.9 * trail.max()
        distance = np.hypot(x - galaxy.x, y - galaxy.y)[ridge].min()
        assert nearest - 1 < distance < farthest + 1


def test_skies(added):
    assert added('sky +0.5 sigma') == pytest.approx(0.5)
    assert added('sky -0.5 sigma') == pytest.approx(-0.5)
    slope = added('gradient of the sky')
    assert slope.max() == pytest.approx(-slope.min(), abs=0.05)
    assert 0.95 < slope.max() < 1.5
    assert np.diff(slope, 2, axis=0) == pytest.approx(0, abs=1e-9)


def test_noise_as_it_is_stated(benchmark, stamp_of, good, galaxy):
    for title, factor in {
        'noise half of the true one': 0.5,
        'noise twice the true one': 2,
    }.items():
        assert np.all(stamp_of(title).noise == factor * NOISE)
        assert np.array_equal(stamp_of(title).data, good.data)
    photons = stamp_of("noise without the galaxy's").data / NOISE + 1
    assert photons == pytest.approx(photons.round())
    assert photons[:40].mean() == pytest.approx(1, abs=0.05)
    middle = benchmark['faults'].MIDDLE
    for title, growth in {
        'correlated noise, growth 1.2': 1.2,
        'correlated noise, growth 1.8': 1.8,
    }.items():
        noise = stamp_of(title).data - galaxy.drawn['galaxy'][middle]
        assert noise.std() == pytest.approx(NOISE, rel=0.05)
        assert noise_growth(noise) == pytest.approx(growth, rel=0.12)


def test_scale_and_psfs_as_they_are_given(stamp_of, good):
    scaled = stamp_of('asinh-scaled pixels').data
    assert 2 * NOISE * np.sinh(scaled / (2 * NOISE)) == pytest.approx(good.data)

    for title, factor in {
        'PSF 20 % too broad': 1.2,
        'PSF 20 % too narrow': 0.8,
        'PSF oversampled by 2, unsaid': 2.0,
    }.items():
        stamp = stamp_of(title)
        # of the same sum
        assert np.sqrt(good.psf.max() / stamp.psf.max()) == pytest.approx(factor, rel=0.08)
        assert np.array_equal(stamp.data, good.data)
    pedestal = stamp_of('PSF with a pedestal of 1 %').psf
    assert pedestal.min() / pedestal.max() == pytest.approx(0.01, rel=0.1)


# -- what is said of them -------------------------------------------------------------------------


def test_verdicts(benchmark):
    """A flag that the galaxy has anyway, or that warns of nothing, is none of the fault."""
    from astropy import units as u
    from astropy.table import QTable

    from astroflux.flags import MeasurementFlag as Flag

    def table(flux, flags):
        flux = np.full(20, float(flux)) * u.adu
        return QTable(
            {
                'flux': flux,
                'flux_err': 0.1 * flux,
                'flux_lower': 0.9 * flux,
                'flux_upper': 1.1 * flux,
                'flags': np.full(20, int(flags)),
                'truth': np.full(20, 100.0) * u.adu,
            }
        )

    judge = benchmark['science_faults'].judge
    control = table(100, Flag.UNFAMILIAR)
    right = judge(table(105, Flag.UNFAMILIAR | Flag.MASKED_PIXELS), control)
    assert (right['verdict'], right['flagged']) == ('right', 0)
    assert right['flags'] == {'MASKED_PIXELS': 1}
    assert right['bias'] == right['unflagged']['bias'] == pytest.approx(0.05, abs=1e-4)
    # without a fault, a flag is a false alarm
    assert judge(control)['flags'] == {'UNFAMILIAR': 1}
    silent = judge(table(150, Flag.UNFAMILIAR | Flag.MASKED_PIXELS), control)
    assert (silent['verdict'], silent['coverage_68'], silent['outliers']) == ('silent', 0, 1)
    flagged = judge(table(150, Flag.OFF_CENTRE), control)
    assert (flagged['verdict'], flagged['flagged']) == ('flagged', 1)
    assert flagged['unflagged']['bias'] is None


@pytest.fixture(scope='module')
def measured():
    return json.loads((DOCS / 'benchmarks' / 'science-faults.json').read_text())


def test_tables_of_the_page(benchmark, measured):
    tables = benchmark['fault_tables']
    for name, table in {
        'science-faults': tables.verdict_table(measured['cnn']),
        'science-faults-flags': tables.flags_table(measured['cnn']),
        'science-faults-remedies': tables.remedies_table(measured['cnn']),
        'science-faults-padding': tables.padding_table(measured['cnn']),
        'science-faults-methods': tables.others_table(measured),
    }.items():
        path = DOCS / 'benchmarks' / f'{name}.rst.inc'
        assert path.read_text() == table
        assert f'.. include:: benchmarks/{path.name}' in PAGE
    for results in measured.values():
        assert [*results] == [*benchmark['faults'].KINDS]
        assert {found['n'] for found in results.values()} == {100}
    assert f'in {len(benchmark["faults"].KINDS)} panels' in PAGE


def test_each_fault_has_advice(benchmark):
    faults = benchmark['faults']
    asked = set(faults.KINDS) - set(faults.PADDINGS) - {faults.CONTROL, faults.WIDE}
    assert set(re.findall(r'\*\*(.+?)\*\*', PAGE)) == asked


def test_what_is_said_to_be_silent(measured):
    section = PAGE.split('What stays silent\n')[1].split('\nWhat to do\n')[0]
    silent = {title for title, found in measured['cnn'].items() if found['verdict'] == 'silent'}
    assert set(re.findall('^- (.+)$', section, re.MULTILINE)) == silent


def test_faults_of_a_few_galaxies_are_not_silent(benchmark, measured, tmp_path_factory):
    """What the table says of a hundred galaxies, with the package as it is."""
    run, faults = benchmark['science_faults'], benchmark['faults']
    galaxies = benchmark['fault_galaxies'].read_galaxies(8, tmp_path_factory.mktemp('few'))

    def tables(title):
        return run.measure('cnn', [faults.KINDS[title](galaxy, galaxy.rng) for galaxy in galaxies])

    control = tables(faults.CONTROL)
    assert not np.any(control['flags'])
    for title, known in measured['cnn'].items():
        if known['verdict'] == 'silent' or title in faults.PADDINGS:
            continue
        found = tables(title)
        own = found['flags'] & ~control['flags'] & ~int(run.NO_WARNING)
        error = np.abs(np.log(found['flux'] / found['truth']))
        # blank sky has no flux to be wrong
        wrong = (own == 0) & (error > np.log(1.3))
        assert np.count_nonzero(wrong) <= 1, title
        if known['flagged'] > 0.95:
            assert np.count_nonzero(own) >= 7, title


def test_what_is_said_of_single_faults(measured):
    network, kron = measured['cnn'], measured['kron']

    def share(title, *flags):
        return max(network[title]['flags'].get(flag, 0) for flag in flags)

    # false alarms are few
    assert (
        max(network[title]['flagged'] for title in ('no fault', 'half-light radius 14 px')) < 0.15
    )
    assert (
        network['no fault']['verdict'] == network['half-light radius 14 px']['verdict'] == 'right'
    )
    assert abs(network['star']['bias']) < 0.02
    assert share('blank sky', 'NOT_DETECTED', 'LOW_SNR') > 0.95
    # both of two that are half of a FWHM apart; and of two FWHM, Kron's apertures hold both in many
    for results in measured.values():
        assert results['twin at 0.5 FWHM']['bias'] > 0.8
    assert network['twin at 1 FWHM']['bias'] > 0.8
    # the README and the model card say so of both
    assert 0.85 < network['twin at 1 FWHM']['flagged'] < 0.95
    assert 0.15 < network['twin at 0.5 FWHM']['flagged'] < 0.25
    assert share('twin at 1 FWHM', 'OFF_CENTRE', 'NEIGHBOUR') > 0.5
    assert abs(network['twin at 2 FWHM']['bias']) < 0.05
    assert share('twin at 2 FWHM', 'NEIGHBOUR') > 0.75
    assert 0.2 < kron['twin at 2 FWHM']['outliers'] < 0.6
    near = network['neighbor of 10 times the flux']
    assert abs(near['bias']) < 0.03
    assert near['coverage_68'] < 0.65
    assert share('neighbor of 10 times the flux', 'NEIGHBOUR') > 0.75
    assert network['larger than the stamp']['bias'] < -0.3
    assert share('larger than the stamp', 'TRUNCATED') > 0.9
    assert share('4 px from the edge', 'OFF_CENTRE') > 0.95
    assert network['12 px from the edge']['bias'] < -0.02
    for title in (
        'cosmic ray through the core',
        'cosmic rays around',
        'hot pixel',
        'satellite through the core',
    ):
        assert share(title, 'ARTEFACT') > 0.9
    assert abs(network['satellite beside']['bias']) < 0.05
    assert share('dead columns', 'MASKED_PIXELS') > 0.9
    assert abs(network['dead columns']['bias']) < 0.05
    for title in ('saturated core', 'bleed trail'):
        assert share(title, 'MASKED_CORE') > 0.75
        assert share(title, 'UNFAMILIAR') > 0.75
        assert network[title]['flagged'] > 0.95
    for title in ('sky +0.5 sigma', 'sky -0.5 sigma'):
        assert share(title, 'SKY_RESIDUAL') > 0.95
        assert abs(network[title]['bias']) < 0.05
        assert all(abs(measured[method][title]['bias']) > 0.2 for method in ('kron', 'sep'))
    for title in ('noise half of the true one', 'noise twice the true one'):
        assert share(title, 'NOISE_SUSPECT') > 0.95
        assert abs(network[title]['bias']) < 0.03
    coverage = [
        network[title]['coverage_68']
        for title in ('correlated noise, growth 1.8', 'correlated noise, growth 1.2', 'no fault')
    ]
    assert coverage == sorted(coverage)
    for title in (
        'correlated noise, growth 1.2',
        'correlated noise, growth 1.8',
        'PSF 20 % too broad',
        'PSF 20 % too narrow',
    ):
        assert abs(network[title]['bias']) < 0.03


def test_what_is_said_of_remedies(measured):
    network = measured['cnn']
    remedied = {title: found['remedied'] for title, found in network.items() if 'remedied' in found}
    trail, beside, gain, sky = (
        remedied.pop(title)
        for title in (
            'satellite through the core',
            'satellite beside',
            "noise without the galaxy's",
            'gradient of the sky',
        )
    )
    assert trail['bias'] < -0.2
    assert abs(beside['bias']) < 0.05
    assert -0.08 < gain['bias'] < -0.02
    assert gain['coverage_68'] > 0.68
    # of a map that takes some of the light
    assert -0.05 < sky['bias'] < -0.01
    assert len(remedied) == 11
    for figures in remedied.values():
        assert abs(figures['bias']) < 0.03
        assert figures['coverage_68'] > 0.6


def test_what_is_said_of_padding(measured):
    network = measured['cnn']
    for title, found in network.items():
        if 'change' in found and 'masked' in title:
            assert found['change']['largest'] < 1e-4
        elif title.startswith('padded'):
            assert found['change']['largest_errors'] < 0.5


def test_what_is_said_of_other_methods(measured):
    """Their intervals hold few true fluxes also without a fault."""
    assert measured['kron']['no fault']['coverage_68'] < 0.3
    assert measured['sep']['no fault']['coverage_68'] < 0.5
