# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable

from astroflux import ApertureFluxEstimator, KronFluxEstimator
from astroflux.cutouts import CutoutFile
from astroflux.evaluation import (
    CutoutSource,
    DatasetSource,
    FileSource,
    ListSource,
    SimulatedSource,
    compare_methods,
    derive_parameters,
    merge_comparisons,
    summarize_by,
)
from astroflux.flags import FATAL_FLAGS
from astroflux.simulation import CutoutSimulation, GalaxyPopulation, SceneSimulation


class RoundGalaxies(CutoutSource):
    """Gaussians of known flux, without GalSim; some are blank, one is not an image."""

    title = 'round galaxies'

    def __init__(self, n, *, with_truth=True, unit='nJy'):
        self.n = n
        self.with_truth = with_truth
        self.unit = unit

    def __len__(self):
        return self.n

    def load(self, start, stop):
        y, x = np.mgrid[-20:21, -20:21]
        cutouts, flux = [], []
        for index in range(start, stop):
            rng = np.random.default_rng(index)
            flux.append(0.0 if index % 7 == 6 else 200.0 * (1 + index))
            image = flux[-1] * np.exp(-0.5 * (x**2 + y**2) / 9) / (18 * np.pi)
            noisy = image + rng.normal(0, 0.5, image.shape)
            uncertainty = StdDevUncertainty(np.full(image.shape, 0.5))
            cutouts.append(CCDData(noisy, unit=self.unit, uncertainty=uncertainty))
        if start == 0 and stop > 3:
            cutouts[3] = np.zeros(5) * u.Unit(self.unit)
        truth = None
        if self.with_truth:
            flux = np.maximum(flux, 1.0)
            truth = QTable({'flux': flux * u.Unit(self.unit), 'snr': flux / (0.5 * 10.6)})
            truth['magnitude'] = (31.4 - 2.5 * np.log10(flux)) * u.mag
        return cutouts, truth


METHODS = {'kron': KronFluxEstimator(), 'aperture': ApertureFluxEstimator(radius=10)}


@pytest.fixture(scope='module')
def comparison():
    return compare_methods(
        RoundGalaxies(30), METHODS, limits={'kron': 12}, chunk_size=8, n_extremes=3, progress=False
    )


def test_every_method_on_every_cutout(comparison):
    assert comparison.title == 'round galaxies'
    assert comparison.labels == {'kron': 'kron', 'aperture': 'aperture'}
    table = comparison.measurements
    assert isinstance(table, QTable)
    np.testing.assert_array_equal(comparison.of_method('aperture')['cutout'], np.arange(30))
    # the slow one measured the first cutouts alone
    np.testing.assert_array_equal(comparison.of_method('kron')['cutout'], np.arange(12))
    assert len(comparison.truth) == 30
    assert table['flux'].unit == u.nJy


def test_measurements_are_those_of_the_estimators(comparison):
    cutouts, truth = RoundGalaxies(30).load(0, 30)
    expected = METHODS['aperture'].measure(cutouts)
    rows = comparison.of_method('aperture')
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper', 'snr', 'flags'):
        np.testing.assert_array_equal(rows[name], expected[name])
    good = np.isfinite(rows['ln_error'])
    ratio = (rows['flux'] / truth['flux'])[good].value
    np.testing.assert_allclose(rows['ln_error'][good], np.log(ratio))


def test_failures_stay_rows(comparison):
    row = comparison.of_method('kron')[3]
    assert row['flags'] & FATAL_FLAGS
    assert np.isnan(row['flux'])
    assert np.isnan(row['ln_error'])


def test_extremes_are_the_worst(comparison):
    for name, cases in comparison.extremes.items():
        rows = comparison.of_method(name)
        eligible = comparison.truth['snr'][: len(rows)] > 20
        worst = np.sort(np.abs(rows['ln_error'])[eligible & np.isfinite(rows['ln_error'])])[::-1]
        np.testing.assert_allclose([abs(case.ln_ratio) for case in cases], worst[:3])
        case = cases[0]
        assert case.image.shape == case.mask.shape == (41, 41)
        assert case.noise == 0.5
        assert case.reference == comparison.truth['flux'][case.cutout]
        assert case.flux == rows['flux'][case.cutout]
        assert case.details['snr'] == comparison.truth['snr'][case.cutout]
        assert case.details['magnitude'] == comparison.truth['magnitude'][case.cutout].value


def test_speed_is_recorded(comparison):
    assert list(comparison.speed['method']) == ['kron', 'aperture']
    assert list(comparison.speed['n']) == [12, 30]
    assert np.all(comparison.speed['cpu_time'] >= 0 * u.s)
    assert comparison.speed['cpu_time'][0] > 0 * u.s


def test_meta(comparison):
    assert comparison.meta['methods']['aperture'] == repr(METHODS['aperture'])
    assert {'astroflux', 'astropy', 'numpy', 'photutils'} <= set(comparison.meta['versions'])
    assert comparison.meta['limits'] == {'kron': 12}
    assert comparison.meta['psf_fwhm'] == 'of the PSF image of each cutout'


def test_result_does_not_depend_on_workers_or_chunks(tmp_path):
    # a process of its own must be able to import the source: one of the package
    cutouts, truth = RoundGalaxies(13).load(1, 13)
    truth['file_name'] = [f'{index}.fits' for index in range(12)]
    for cutout, name in zip(cutouts, truth['file_name'], strict=True):
        cutout.write(tmp_path / name)
    truth.write(tmp_path / 'truth.ecsv')
    source = DatasetSource(tmp_path)
    one, other = (
        compare_methods(source, METHODS, limits={'kron': 7}, progress=False, **options)
        for options in ({'chunk_size': 12}, {'chunk_size': 5, 'workers': 2})
    )
    assert len(other.measurements) == 12 + 7
    for name in ('method', 'cutout', 'flux', 'flags', 'ln_error'):
        np.testing.assert_array_equal(other.measurements[name], one.measurements[name])
    np.testing.assert_array_equal(other.truth['flux'], one.truth['flux'])
    for name in METHODS:
        assert [case.cutout for case in other.extremes[name]] == [
            case.cutout for case in one.extremes[name]
        ]


class Stopped(RoundGalaxies):
    """Galaxies that can be had up to a number, after which the work is interrupted."""

    def __init__(self, n, last=np.inf, **options):
        super().__init__(n, **options)
        self.last = last
        self.loaded = []

    def load(self, start, stop):
        if stop > self.last:
            raise KeyboardInterrupt
        self.loaded.append(start)
        return super().load(start, stop)


@pytest.mark.parametrize('with_truth', [True, False])
def test_goes_on_where_it_was_stopped(tmp_path, with_truth):
    options = {'limits': {'kron': 12}, 'chunk_size': 8, 'n_extremes': 3, 'progress': False}
    whole = compare_methods(RoundGalaxies(30, with_truth=with_truth), METHODS, **options)
    with pytest.raises(KeyboardInterrupt):
        compare_methods(
            Stopped(30, 17, with_truth=with_truth), METHODS, resume=tmp_path / 'new', **options
        )
    source = Stopped(30, with_truth=with_truth)
    again = compare_methods(source, METHODS, resume=tmp_path / 'new', **options)
    assert source.loaded == [16, 24]
    assert again.measurements.colnames == whole.measurements.colnames
    for name in whole.measurements.colnames:
        np.testing.assert_array_equal(again.measurements[name], whole.measurements[name])
        assert again.measurements[name].dtype == whole.measurements[name].dtype
    assert again.measurements['flux'].unit == u.nJy
    if with_truth:
        assert again.truth.colnames == whole.truth.colnames
        for name in whole.truth.colnames:
            np.testing.assert_array_equal(again.truth[name], whole.truth[name])
    else:
        assert again.truth is None
    for name, cases in whole.extremes.items():
        for case, other in zip(cases, again.extremes[name], strict=True):
            assert {k: v for k, v in vars(other).items() if k not in ('image', 'mask')} == {
                k: v for k, v in vars(case).items() if k not in ('image', 'mask')
            }
            np.testing.assert_array_equal(other.image, case.image)
            np.testing.assert_array_equal(other.mask, case.mask)
    assert list(again.speed['n']) == [12, 30]
    # nothing is left to do
    source = Stopped(30, 0, with_truth=with_truth)
    third = compare_methods(source, METHODS, resume=tmp_path / 'new', **options)
    np.testing.assert_array_equal(third.measurements['flux'], whole.measurements['flux'])
    np.testing.assert_array_equal(third.speed['cpu_time'], again.speed['cpu_time'])


FITTED = ApertureFluxEstimator(radius=10)
FITTED.aperture_correction_ = 1.5


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'source': RoundGalaxies(5)}, 'source.n=4, not with source.n=5'),
        ({'methods': {'kron': KronFluxEstimator()}}, 'methods.aperture='),
        (
            {'methods': {**METHODS, 'aperture': FITTED}},
            "learned.aperture.aperture_correction_=None, not with .*='1.5'",
        ),
        ({'limits': {'kron': 1}}, 'limits.kron=None, not with limits.kron=1'),
        ({'psf_fwhm': 3.0}, "psf_fwhm='None', not with psf_fwhm='3.0'"),
        ({'noise_correlation': 1.2}, "noise_correlation='none', not with .*='1.2'"),
        ({'chunk_size': 3}, 'chunk_size=100, not with chunk_size=3'),
    ],
)
def test_goes_on_with_nothing_else(tmp_path, change, message):
    arguments = {'source': RoundGalaxies(4), 'methods': METHODS, 'progress': False}
    compare_methods(**arguments, resume=tmp_path)
    with pytest.raises(ValueError, match=f'the comparison in .* was begun with .*{message}'):
        compare_methods(**{**arguments, **change}, resume=tmp_path)


def test_list_of_cutouts():
    cutouts, truth = RoundGalaxies(5).load(0, 5)
    plain = compare_methods(cutouts, METHODS, chunk_size=2, progress=False)
    assert plain.title == '5 cutouts'
    assert plain.truth is None
    known = compare_methods(ListSource(cutouts, truth, title='five'), METHODS, progress=False)
    assert known.title == 'five'
    np.testing.assert_array_equal(known.truth['flux'], truth['flux'])
    for name in METHODS:
        expected = METHODS[name].measure(cutouts)['flux']
        np.testing.assert_array_equal(plain.of_method(name)['flux'], expected)
        np.testing.assert_array_equal(known.of_method(name)['flux'], expected)
    stack = np.zeros((3, 20, 20)) + np.random.default_rng(0).normal(size=(3, 20, 20))
    assert len(compare_methods(stack, METHODS, progress=False).measurements) == 6


def test_correlated_noise(tmp_path):
    cutouts, _ = RoundGalaxies(3).load(0, 3)
    kernel = np.outer([0.2, 1, 0.2], [0.2, 1, 0.2])
    comparison = compare_methods(cutouts, METHODS, noise_correlation=kernel, progress=False)
    for name in METHODS:
        expected = METHODS[name].measure(cutouts, noise_correlation=kernel)['flux_err']
        np.testing.assert_array_equal(comparison.of_method(name)['flux_err'], expected)
    assert comparison.meta['noise_correlation'] == str(kernel.tolist())
    with pytest.raises(ValueError, match="or 'estimate', got 'white'"):
        compare_methods(cutouts, METHODS, noise_correlation='white', resume=tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_not_a_list():
    with pytest.raises(TypeError, match='want a CutoutSource or a list of cutouts, got str'):
        compare_methods('a.fits', METHODS)
    with pytest.raises(ValueError, match='there are 2 cutouts, but 3 rows of truth'):
        ListSource([1, 2], QTable({'flux': [1.0, 2, 3] * u.nJy}))


def test_sources_tell_themselves_apart(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        QTable({'file_name': ['0.fits'], 'flux': [1.0] * u.nJy}).write(
            tmp_path / name / 'truth.ecsv'
        )
    sources = [
        *(FileSource([name]) for name in ('a.fits', 'b.fits')),
        *(FileSource([CutoutFile('a.fits', hdu=hdu)]) for hdu in (None, 1)),
        *(ListSource([np.full((9, 9), value)]) for value in (0.0, 1.0)),
        *(ListSource([CCDData(np.full((9, 9), value), unit='adu')]) for value in (2.0, 3.0)),
        *(DatasetSource(tmp_path / name) for name in ('a', 'b')),
        *(SimulatedSource(1, seed=seed) for seed in (1, 2)),
        SimulatedSource(1, seed=1, with_bound=False),
        SimulatedSource(1, seed=1, alter=mask_all_but_the_corner),
        SimulatedSource(1, CutoutSimulation(shape=(51, 51)), seed=1),
    ]
    settings = [json.dumps(source.settings, sort_keys=True) for source in sources]
    assert len(set(settings)) == len(settings)


def test_without_truth():
    comparison = compare_methods(RoundGalaxies(10, with_truth=False), METHODS, progress=False)
    assert comparison.truth is None
    assert 'ln_error' not in comparison.measurements.colnames
    kron, aperture = (comparison.of_method(name)['flux'] for name in METHODS)
    case = comparison.extremes['kron'][0]
    median = (kron[case.cutout] + aperture[case.cutout]) / 2
    assert case.reference.value == pytest.approx(median.value)
    assert case.ln_ratio == pytest.approx(np.log((kron[case.cutout] / median).value))


def test_labels(comparison):
    labels = {'kron': 'Kron (photutils)'}
    other = compare_methods(RoundGalaxies(2), METHODS, labels=labels, progress=False)
    assert other.labels == {'kron': 'Kron (photutils)', 'aperture': 'aperture'}


def test_progress(capsys):
    compare_methods(RoundGalaxies(4), METHODS, chunk_size=2, progress=True)
    assert '4/4' in capsys.readouterr().err
    # by itself it is told where the work takes long
    compare_methods(RoundGalaxies(4), METHODS, chunk_size=2)
    assert capsys.readouterr().err == ''


def test_nothing_to_compare():
    with pytest.raises(ValueError, match='no cutouts'):
        compare_methods(RoundGalaxies(0), METHODS)
    with pytest.raises(ValueError, match='no methods'):
        compare_methods(RoundGalaxies(3), {})


def test_what_no_method_measures_is_not_loaded():
    comparison = compare_methods(
        RoundGalaxies(30), METHODS, limits={'kron': 3, 'aperture': 10}, chunk_size=4, progress=False
    )
    assert list(comparison.speed['n']) == [3, 10]
    assert len(comparison.truth) == 10
    with pytest.raises(ValueError, match='no cutouts'):
        compare_methods(RoundGalaxies(3), METHODS, limits=dict.fromkeys(METHODS, 0))


def test_incompatible_units():
    class Mixed(RoundGalaxies):
        def load(self, start, stop):
            self.unit = 'nJy' if start == 0 else 'adu'
            return super().load(start, stop)

    with pytest.raises(u.UnitsError, match="'nJy' and 'adu'"):
        compare_methods(Mixed(8, with_truth=False), METHODS, chunk_size=4, progress=False)


def test_merge(comparison):
    apart = [
        compare_methods(
            RoundGalaxies(30), {name: METHODS[name]}, limits=limits, n_extremes=3, progress=False
        )
        for name, limits in (('kron', {'kron': 12}), ('aperture', {}))
    ]
    merged = merge_comparisons(apart)
    assert list(merged.labels) == ['kron', 'aperture']
    assert merged.meta['limits'] == {'kron': 12}
    assert set(merged.meta['versions']) == set(comparison.meta['versions'])
    for name in METHODS:
        np.testing.assert_array_equal(
            merged.of_method(name)['flux'], comparison.of_method(name)['flux']
        )
    assert len(merged.truth) == 30
    assert set(merged.extremes) == set(METHODS) == set(merged.meta['methods'])
    assert list(merged.speed['n']) == [12, 30]


def test_merge_refuses_what_does_not_match(comparison):
    with pytest.raises(ValueError, match=r"methods \['aperture', 'kron'\] are in more than one"):
        merge_comparisons([comparison, comparison])
    other = compare_methods(
        RoundGalaxies(5), {'other': ApertureFluxEstimator(radius=5)}, progress=False
    )
    other.truth['flux'][0] *= 2
    with pytest.raises(ValueError, match='true fluxes differ'):
        merge_comparisons([comparison, other])
    other.truth = None
    with pytest.raises(ValueError, match='know the truth'):
        merge_comparisons([comparison, other])


# -- sources --------------------------------------------------------------------------------------


def test_files(tmp_path):
    cutouts, _ = RoundGalaxies(2).load(1, 3)
    paths = [tmp_path / f'{index}.fits' for index in range(2)]
    for cutout, path in zip(cutouts, paths, strict=True):
        cutout.write(path)
    comparison = compare_methods(
        FileSource([*paths, tmp_path / 'missing.fits']), METHODS, progress=False
    )
    rows = comparison.of_method('aperture')
    assert list(rows['name']) == [str(path) for path in [*paths, tmp_path / 'missing.fits']]
    assert list(np.isfinite(rows['flux'])) == [True, True, False]
    np.testing.assert_allclose(rows['flux'][:2], METHODS['aperture'].predict(cutouts))


def test_dataset(tmp_path):
    pytest.importorskip('galsim')
    from astroflux.simulation import write_dataset

    simulation = CutoutSimulation(shape=(41, 41))
    truth = write_dataset(tmp_path, 4, simulation, seed=5, progress=False)
    source = DatasetSource(tmp_path)
    assert len(source) == 4
    comparison = compare_methods(source, METHODS, chunk_size=3, progress=False)
    np.testing.assert_array_equal(comparison.truth['flux'], truth['flux'])
    rows = comparison.of_method('aperture')
    assert np.all(np.isfinite(rows['ln_error'][truth['snr'] > 50]))


@pytest.mark.parametrize('kind', [CutoutSimulation, SceneSimulation])
def test_dataset_has_the_bounds_of_its_simulation(kind, tmp_path):
    pytest.importorskip('galsim')
    from astroflux.simulation import write_dataset

    simulation = kind(shape=(41, 41), galaxies=GalaxyPopulation(snr=(20, 200)), sky_residual=0.1)
    write_dataset(tmp_path, 3, simulation, seed=5, progress=False)
    expected = SimulatedSource(3, simulation, seed=5).load(0, 2)[1]
    (tmp_path / '000002.fits').write_text('not FITS')
    source = DatasetSource(tmp_path)
    assert source.no_bound == ''
    truth = source.load(0, 3)[1]
    for name in ('bound', 'bound_without_prior'):
        np.testing.assert_allclose(truth[name][:2], expected[name], rtol=1e-5)
        assert np.isnan(truth[name][2])


def test_dataset_without_a_bound(tmp_path, monkeypatch):
    QTable({'file_name': ['a.fits'], 'flux': [1.0]}).write(tmp_path / 'truth.ecsv')
    source = DatasetSource(tmp_path)
    assert source.no_bound == 'they come without the simulation that drew them'
    assert 'bound' not in source.load(0, 1)[1].colnames
    monkeypatch.setattr('astroflux.evaluation.sources.find_spec', lambda name: None)
    assert 'GalSim' in DatasetSource(tmp_path).no_bound
    assert 'not asked for' in DatasetSource(tmp_path, with_bound=False).no_bound


def test_titles_of_files(tmp_path):
    for names, title in (
        (['a/x.fits'], 'x.fits'),
        (['a/x.fits', 'a/y.fits'], '2 files of a'),
        (['a/x.fits', 'b/x.fits'], '2 files of 2 folders'),
    ):
        assert FileSource([tmp_path / name for name in names]).title == title


def test_not_a_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'holds no data set: truth.ecsv is missing'):
        DatasetSource(tmp_path)
    QTable({'name': ['a']}).write(tmp_path / 'truth.ecsv')
    with pytest.raises(ValueError, match=r"lacks the columns \['file_name', 'flux'\]"):
        DatasetSource(tmp_path)


def test_simulated_source():
    pytest.importorskip('galsim')
    from astroflux.evaluation import ImageModel, ln_flux_bound
    from astroflux.simulation import simulate_cutouts

    simulation = CutoutSimulation(shape=(51, 51))
    expected = [cutout for cutout, _ in simulate_cutouts(3, simulation, seed=8)]
    source = SimulatedSource(3, simulation, seed=8)
    cutouts, truth = source.load(1, 3)
    for cutout, other in zip(cutouts, expected[1:], strict=True):
        np.testing.assert_array_equal(cutout.data, other.data)
    model = ImageModel(truth[0], (51, 51), 0.168)
    assert truth['bound_without_prior'][0] == pytest.approx(
        ln_flux_bound(model, 0.05, sky_error=0.02 * 0.05), rel=1e-5
    )
    assert truth['bound'][0] < truth['bound_without_prior'][0]
    assert 'bound' not in SimulatedSource(3, simulation, with_bound=False).load(0, 1)[1].colnames


def mask_all_but_the_corner(cutout, truth, rng):
    cutout.mask = np.ones(cutout.shape, bool)
    cutout.mask[:5, :5] = False
    return cutout


def test_altered_cutouts_have_their_own_bound():
    pytest.importorskip('galsim')
    plain = SimulatedSource(1, seed=8)
    altered = SimulatedSource(1, seed=8, alter=mask_all_but_the_corner)
    cutouts, truth = altered.load(0, 1)
    assert cutouts[0].mask.sum() == cutouts[0].data.size - 25
    assert truth['bound_without_prior'][0] > 100 * plain.load(0, 1)[1]['bound_without_prior'][0]


# -- parameters -----------------------------------------------------------------------------------


def test_parameters():
    truth = QTable(
        {
            'flux': [1.0, 2.0] * u.nJy,
            'magnitude': [20.0, 21.0] * u.mag,
            'n_components': [1, 2],
            'sersic_index_1': [2.5, 1.0],
            'axis_ratio_1': [0.3, 0.4],
            'bulge_to_total': [0.0, 0.6],
            'half_light_radius': [0.5, 1.4] * u.arcsec,
            'psf_fwhm': [500.0, 700.0] * u.mas,
        }
    )
    table = derive_parameters(truth)
    np.testing.assert_array_equal(table['sersic_index'], [2.5, np.nan])
    np.testing.assert_array_equal(table['bulge_to_total'], [np.nan, 0.6])
    np.testing.assert_array_equal(table['axis_ratio'], [0.3, 0.4])
    np.testing.assert_allclose(table['size_over_fwhm'], [1, 2])
    np.testing.assert_array_equal(table['magnitude'], [20, 21])
    assert table['flux'].unit == u.nJy
    # the given one is left as it was
    assert truth['bulge_to_total'][0] == 0


def test_parameters_that_are_not_known():
    truth = QTable({'n_components': [1, 2], 'sersic_index_1': [2.5, 1.0]})
    assert derive_parameters(truth).colnames == [*truth.colnames, 'sersic_index']
    table = derive_parameters(QTable({'flux': [1.0] * u.nJy}))
    assert table.colnames == ['flux']


def test_summary_of_a_comparison(comparison):
    rows = comparison.of_method('aperture')
    summary = summarize_by(comparison.truth['snr'], (0, 100, 5000), rows)
    assert summary['n'].sum() == 30
    assert abs(summary['bias'][1]) < 0.02
