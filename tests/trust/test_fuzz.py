# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A few of the damaged inputs of ``benchmarks/fuzz.py``, and how their outcomes are judged."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroflux.flags import MeasurementFlag

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
NAMES = ('fuzz_outcomes', 'fuzz_inputs', 'fuzz_trials', 'fuzz', 'report', 'trust')


@pytest.fixture(scope='module')
def fuzz():
    """The modules of the benchmark, which import each other by plain names."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import fuzz
        import trust

        fuzz.trust = trust
    finally:
        sys.path.remove(str(BENCHMARKS))
    yield fuzz
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture(scope='module')
def trials(fuzz, tmp_path_factory):
    return fuzz.Trials(tmp_path_factory.mktemp('fuzz'), seed=1)


@pytest.mark.parametrize(
    ('family', 'method', 'n'),
    [
        ('arrays', 'cnn', 200),
        ('FITS files', 'aperture', 100),
        ('keywords', None, 150),
        ('tables', None, 60),
        ('saved estimators', None, 100),
        ('weights', None, 20),
    ],
)
def test_no_damaged_input_is_without_an_answer(fuzz, trials, family, method, n):
    with warnings.catch_warnings(), np.errstate(all='ignore'):
        warnings.simplefilter('ignore')
        came = list(trials.family(family, range(n), method))
    assert sorted(number for number, *_ in came) == list(range(n))
    assert [each for each in came if each[3] in fuzz.FORBIDDEN] == []
    # they are damaged, and not all in the same way
    assert len({outcome for *_, outcome, _ in came}) > 1 or family == 'weights'


def test_inputs_come_again(fuzz, trials):
    from fuzz_inputs import damaged_array
    from fuzz_trials import seeds_of

    one, again, other = (damaged_array(seeds_of(1, number)) for number in (5, 5, 6))
    assert one.change == again.change
    np.testing.assert_array_equal(one.item.data, again.item.data)
    assert not np.array_equal(one.item.data, other.item.data)


@pytest.fixture(scope='module')
def outcomes(fuzz):
    import fuzz_outcomes

    return fuzz_outcomes


def test_errors_are_told_apart(outcomes):
    from astroflux import KronFluxEstimator

    def outcome_of(call):
        with pytest.raises(BaseException) as info:
            call()
        return outcomes.of_error(info.value)[0]

    assert outcome_of(lambda: KronFluxEstimator().measure([])) == 'clear error'
    # raised by a library, or by surprise
    assert outcome_of(lambda: np.linalg.cholesky(-np.eye(2))) == 'internal error'
    assert outcome_of(lambda: float('x')) == 'internal error'

    def full():
        raise MemoryError

    assert outcome_of(full) == 'over 2 GB'


@pytest.mark.parametrize(
    ('flux', 'error', 'flags', 'message', 'wanted'),
    [
        (100.0, 1.0, 0, '', 'same number'),
        (102.9, 1.0, 0, '', 'same number'),
        (110.0, 1.0, MeasurementFlag.SKY_RESIDUAL, '', 'flagged other number'),
        # says nothing against the number
        (110.0, 1.0, MeasurementFlag.MASKED_PIXELS, '', 'silent other number'),
        (110.0, 1.0, 0, '', 'silent other number'),
        (100.0, 0.0, 0, '', 'NaN without a reason, or flux without an error'),
        (np.nan, np.nan, MeasurementFlag.BAD_NOISE, 'no noise', 'flagged NaN'),
        (np.nan, np.nan, MeasurementFlag.BAD_NOISE, '', None),
        (np.nan, np.nan, 0, 'no noise', None),
    ],
)
def test_rows_are_told_apart(outcomes, flux, error, flags, message, wanted):
    table = QTable({'flux': [flux] * u.adu, 'flux_err': [error] * u.adu, 'flags': [int(flags)]})
    table.meta['messages'] = {0: message} if message else {}
    outcome, _ = outcomes.of_row(table, 0, 100.0, 0, lambda: True)
    assert outcome == (wanted or 'NaN without a reason, or flux without an error')


def test_what_can_be_seen(fuzz, outcomes):
    from fuzz_inputs import galaxy

    from astroflux.cutouts import iter_cutouts

    def seen(change):
        ccd = galaxy(2000.0).copy()
        change(ccd)
        before, after = (next(iter_cutouts(each)) for each in (galaxy(2000.0), ccd))
        return outcomes.can_be_seen(before, after)

    def scaled(ccd):
        ccd.data *= 3
        ccd.uncertainty.array *= 3

    def smooth(ccd):
        ccd.data += 0.2 * (galaxy(10000.0).data - galaxy(2000.0).data)

    def hot(ccd):
        ccd.data[22, 20] += 100

    def sky(ccd):
        ccd.data += 1

    def noisy(ccd):
        ccd.uncertainty.array *= 3

    def moved(ccd):
        ccd.data = np.roll(ccd.data, 9, axis=1)

    assert [seen(change) for change in (scaled, smooth)] == [False, False]
    assert [seen(change) for change in (hot, sky, noisy, moved)] == [True] * 4


def test_tallies(fuzz, tmp_path):
    path = tmp_path / 'tally.jsonl'
    fuzz.keep(
        path, 0, [(0, 'arrays', 'mask', 'same number', ''), (1, 'arrays', 'PSF', 'over 20 s', '')]
    )
    fuzz.keep(path, 3, [(600, 'tables', 'x', 'same number', '')])
    outcomes, changes, chunks = fuzz.tally_of(path)
    assert chunks == {0, 3}
    assert outcomes == {
        ('arrays', 'same number'): 1,
        ('arrays', 'over 20 s'): 1,
        ('tables', 'same number'): 1,
    }
    assert changes == {('over 20 s', 'PSF'): 1}
    assert path.with_name('forbidden.txt').read_text().startswith('1\tover 20 s\tarrays')
    last = fuzz.table_of(outcomes).splitlines()[-2].split()
    assert last == ['all', '3', '0', '0', '2', '0', '0', '0', '1']
    science = {'twin': {'n': 1000, 'verdict': 'silent'}, 'trail': {'n': 500, 'verdict': 'flagged'}}
    rows, silent = fuzz.trust.rows_of(outcomes, science, (40, 12, 0))
    assert [int(number.replace(',', '')) for _, number in rows] == [
        *(3, 0, 0, 1, 0),
        *(2, 1500, 1),
        *(40, 12, 0),
    ]
    assert silent == ['twin']


def test_long_streams_of_single_rows():
    from astroflux import ApertureFluxEstimator

    noise = np.random.default_rng(0).normal(size=(9, 9))
    fluxes = np.arange(1, 2102)
    rows = ApertureFluxEstimator(radius=3.0)._collect(
        (noise + flux for flux in fluxes), error=1.0, progress=False
    )
    # one array of each column for a thousand rows, and the rows as they came
    assert len(rows._batches['flux']) == 2 + 101
    steps = np.diff(rows.column('flux'))
    np.testing.assert_allclose(steps, steps[0])
    assert rows.n_rows == len(fluxes) == len(rows.column('flags'))


def test_what_the_page_says_of_the_million():
    docs = Path(__file__).parents[2] / 'docs'
    tallies = dict(
        line.rsplit(maxsplit=1)
        for line in (docs / 'benchmarks' / 'trust.rst.inc').read_text().splitlines()
        if line and line[0] != '='
    )
    assert tallies['damaged inputs tried'] == '1,000,000'
    errors = tallies['errors of a library, or by surprise']
    silent = tallies['silent wrong numbers where the change can be seen']
    others = int(errors) + int(silent)
    page = ' '.join((docs / 'damage.rst').read_text().split())
    assert f'Of the million, {others} ended otherwise. Three were errors' in page
    assert errors == '3'
    assert f'The {silent} others are silent numbers' in page
    assert {number for name, number in tallies.items() if 'lost' in name or 'over' in name} == {'0'}
