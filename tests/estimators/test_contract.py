# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What every estimator must keep, whatever its method."""

import copy
import inspect
import io
import pkgutil
import re
import weakref
from contextlib import redirect_stderr
from importlib import import_module

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import astroflux
from astroflux import _progress, decode_flags, estimators
from astroflux.estimators import FluxEstimator
from astroflux.estimators._options import CUTOUT_OPTIONS
from astroflux.estimators.methods import ESTIMATOR_MODULES, KNOWN_METHODS
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

# arguments that the galaxies of these tests ask for; all registered estimators are tested
ARGUMENTS = {'ApertureFluxEstimator': {'radius': 12.0}}
TRAINED = ('CNNFluxEstimator', 'RegressionFluxEstimator')
FACTORS = [1e-12, 1e-6, 3.7, 1e5, 1e12]
BASE_COLUMNS = ['id', 'x', 'y', 'flux', 'flux_err', 'snr', 'flags']


@pytest.fixture(params=ESTIMATOR_MODULES)
def estimator(request):
    for method in KNOWN_METHODS.values():
        if method.estimator == request.param and not method.is_available:
            pytest.skip(f'needs {method.how_to_install}')
    return getattr(astroflux, request.param)(**ARGUMENTS.get(request.param, {}))


def scaled(ccd, factor, unit=None):
    return CCDData(
        ccd.data * factor,
        unit=unit or ccd.unit,
        uncertainty=StdDevUncertainty(ccd.uncertainty.array * factor),
        mask=ccd.mask,
        wcs=ccd.wcs,
    )


def concrete_classes():
    """All estimators that the package defines, registered or not."""
    for module in pkgutil.walk_packages(estimators.__path__, 'astroflux.estimators.'):
        for cls in vars(import_module(module.name)).values():
            is_estimator = isinstance(cls, type) and issubclass(cls, FluxEstimator)
            if is_estimator and cls.__module__ == module.name and not inspect.isabstract(cls):
                yield cls


def test_every_estimator_is_registered():
    found = {cls.__name__: cls.__module__ for cls in concrete_classes()}
    assert found == ESTIMATOR_MODULES
    assert set(found) <= {*estimators.__all__, *astroflux.__all__}


# -- one cutout and many -----------------------------------------------------------------------


def test_predict_scalar(estimator, make_ccd):
    flux = estimator.predict(make_ccd())
    assert isinstance(flux, u.Quantity)
    assert flux.isscalar
    assert flux.unit == u.nJy
    # the truth is 2000; these methods need not be unbiased here
    assert 1700 < flux.value < 2200


def test_predict_array(estimator, many):
    flux = estimator.predict(many)
    assert flux.shape == (len(many),)
    assert flux.unit == u.nJy
    assert np.all(np.diff(flux.value) > 0)


def test_list_of_one_is_not_scalar(estimator, make_ccd):
    ccd = make_ccd()
    assert estimator.predict([ccd]).shape == (1,)
    assert estimator.predict([ccd])[0] == estimator.predict(ccd)


def test_order(estimator, many):
    flux = estimator.predict(many)
    one_by_one = u.Quantity([estimator.predict(ccd) for ccd in many])
    # a network sums in another order when its batch is larger
    np.testing.assert_allclose(flux.value, one_by_one.value, rtol=1e-5)
    reverse = estimator.predict(many[::-1])
    np.testing.assert_allclose(reverse[::-1].value, flux.value, rtol=1e-5)


def test_stack(estimator, make_ccd):
    ccds = [make_ccd(seed=seed) for seed in range(3)]
    stack = NDData(
        np.array([ccd.data for ccd in ccds]),
        unit='nJy',
        uncertainty=StdDevUncertainty(np.ones((3, 61, 61))),
    )
    expected = estimator.predict(ccds)
    np.testing.assert_allclose(estimator.predict(stack).value, expected.value, rtol=1e-6)


def test_plain_array_is_dimensionless(estimator, make_ccd):
    flux = estimator.predict(make_ccd().data)
    assert flux.unit == u.dimensionless_unscaled
    table = estimator.measure(make_ccd().data)
    assert 'NOISE_ESTIMATED' in decode_flags(table['flags'])[0]


def test_empty_list(estimator):
    with pytest.raises(ValueError, match='cutout'):
        estimator.predict([])
    with pytest.raises(ValueError, match='cutout'):
        estimator.measure(iter(()))


def test_input_is_not_modified(estimator, many):
    many[1].mask = np.zeros(many[1].shape, bool)
    many[1].mask[3, 3] = True
    many[2].data[5, 5] = np.nan
    before = copy.deepcopy(many)
    estimator.measure(many)
    for old, new in zip(before, many, strict=True):
        np.testing.assert_array_equal(old.data, new.data)
        np.testing.assert_array_equal(old.uncertainty.array, new.uncertainty.array)
        np.testing.assert_array_equal(old.mask, new.mask)
        assert old.unit == new.unit


# -- units and scale ---------------------------------------------------------------------------


@pytest.mark.parametrize('factor', FACTORS)
def test_equivariance(estimator, many, factor):
    expected = estimator.measure(many)
    table = estimator.measure([scaled(ccd, factor) for ccd in many])
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper'):
        np.testing.assert_allclose(table[name].value, expected[name].value * factor, rtol=1e-5)
    np.testing.assert_allclose(table['snr'], expected['snr'], rtol=1e-5)
    np.testing.assert_array_equal(table['flags'], expected['flags'])


@pytest.mark.parametrize('factor', FACTORS)
def test_equivariance_without_noise(estimator, make_ccd, factor):
    image = make_ccd().data
    expected = estimator.predict(image)
    np.testing.assert_allclose(estimator.predict(image * factor), expected * factor, rtol=1e-5)


@pytest.mark.parametrize('unit', ['Jy', 'uJy', 'erg / (s cm2 Hz)', '3631 Jy'])
def test_units(estimator, make_ccd, unit):
    ccd = make_ccd()
    unit = u.Unit(unit)
    factor = ccd.unit.to(unit)
    flux = estimator.predict(scaled(ccd, factor, unit))
    assert flux.unit == unit
    np.testing.assert_allclose(flux.to_value(u.nJy), estimator.predict(ccd).value, rtol=1e-5)


def test_mixed_units_follow_the_first(estimator, make_ccd):
    ccd = make_ccd()
    other = scaled(ccd, 1e-9, u.Jy)
    flux = estimator.predict([other, ccd])
    assert flux.unit == u.Jy
    np.testing.assert_allclose(flux[0].value, flux[1].value, rtol=1e-5)


def test_incompatible_units(estimator, make_ccd):
    with pytest.raises(u.UnitsError, match='adu'):
        estimator.predict([make_ccd(), make_ccd(unit='adu')])


def test_not_a_flux(estimator, make_ccd):
    with pytest.raises(u.UnitsError, match='m'):
        estimator.predict(make_ccd(unit='m'))


# -- the table ---------------------------------------------------------------------------------


def test_measure_columns(estimator, many):
    table = estimator.measure(many)
    assert isinstance(table, QTable)
    assert len(table) == len(many)
    assert table.colnames[: len(BASE_COLUMNS)] == BASE_COLUMNS
    assert {'flux_lower', 'flux_upper'} <= set(table.colnames)
    np.testing.assert_array_equal(table['id'], np.arange(len(many)))
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper'):
        assert table[name].unit == u.nJy
    assert np.all(table['flux_err'] > 0)
    assert np.all(table['flux_lower'] < table['flux'])
    assert np.all(table['flux_upper'] > table['flux'])
    np.testing.assert_allclose(table['snr'], table['flux'] / table['flux_err'])
    assert table['flags'].dtype.kind == 'i'
    np.testing.assert_allclose(table['flux'], estimator.predict(many))


def test_every_column_has_a_description(estimator, make_ccd):
    table = estimator.measure(make_ccd())
    for name in table.colnames:
        assert table[name].info.description, name
        assert table[name].info.format or table[name].dtype.kind != 'f', name
    assert set(estimator._descriptions) == set(estimator._extra_units)
    assert set(estimator._formats) <= set(estimator._extra_units)
    assert table.pformat(max_width=100)[0].split()[: len(BASE_COLUMNS)] == BASE_COLUMNS


def test_measure_one(estimator, make_ccd):
    table = estimator.measure(make_ccd())
    assert len(table) == 1
    assert table['flux'][0] == estimator.predict(make_ccd())


def test_meta(estimator, make_ccd):
    meta = estimator.measure(make_ccd(), psf_fwhm=4.0).meta
    assert meta['method'] == type(estimator).__name__
    assert set(meta['parameters']) == set(estimator.get_params())
    assert meta['arguments'] == dict.fromkeys(CUTOUT_OPTIONS, 'none') | {'psf_fwhm': 4.0}
    assert {'psf', 'positions', 'noise_correlation'} < set(CUTOUT_OPTIONS)
    assert 'zeropoint' not in CUTOUT_OPTIONS
    assert {'astroflux', 'astropy', 'numpy'} <= set(meta['versions'])
    assert meta['messages'] == {}
    assert meta['measured'][0].startswith('20')


def test_table_can_be_written(estimator, many, tmp_path):
    table = estimator.measure([*many, 'not a file'])
    table.write(tmp_path / 'fluxes.ecsv')
    again = QTable.read(tmp_path / 'fluxes.ecsv')
    np.testing.assert_allclose(again['flux'].value, table['flux'].value)
    assert again['flux'].unit == u.nJy
    assert again.meta['parameters'] == table.meta['parameters']


def test_psf_flag(estimator, make_ccd):
    assert 'PSF_UNKNOWN' in decode_flags(estimator.measure(make_ccd())['flags'])[0]
    table = estimator.measure(make_ccd(), psf_fwhm=4.0)
    assert 'PSF_UNKNOWN' not in decode_flags(table['flags'])[0]


def test_positions(estimator, make_ccd):
    centred = make_ccd(shape=(81, 81), sigma=0.01)
    shifted = make_ccd(shape=(81, 81), sigma=0.01, centre=(33.0, 45.0))
    flux = estimator.predict([centred, shifted], positions=[(40, 40), (33, 45)])
    np.testing.assert_allclose(flux[1].value, flux[0].value, rtol=0.02)


def test_off_centre_flag(estimator, make_ccd):
    ccd = make_ccd(shape=(81, 81), centre=(6.0, 40.0))
    names = decode_flags(estimator.measure(ccd, positions=(6, 40))['flags'])[0]
    assert 'OFF_CENTRE' in names


def test_positions_outside_do_not_fail_the_batch(estimator, make_ccd):
    table = estimator.measure([make_ccd(), make_ccd()], positions=[(500, 500), (30, 30)])
    assert 'OFF_CENTRE' in decode_flags(table['flags'])[0]
    alone = estimator.predict(make_ccd(), positions=(30, 30))
    # sums in a batch may be in another order
    np.testing.assert_allclose(table['flux'][1].value, alone.value, rtol=1e-6)


# -- bad rows ----------------------------------------------------------------------------------


def bad_items():
    good = np.ones((40, 40))
    flat = StdDevUncertainty(np.ones((40, 40)))
    zeros = StdDevUncertainty(np.zeros((40, 40)))
    all_masked = NDData(good, unit='nJy', uncertainty=flat, mask=np.ones((40, 40), bool))
    return [
        pytest.param('no_such_file.fits', 'UNREADABLE', id='missing file'),
        pytest.param(np.ones(10) * u.nJy, 'BAD_INPUT', id='1-d'),
        pytest.param(np.ones((4, 4)) * u.nJy, 'BAD_INPUT', id='tiny'),
        pytest.param(object(), 'BAD_INPUT', id='object'),
        pytest.param(all_masked, 'NO_PIXELS', id='all masked'),
        pytest.param(
            NDData(good * np.nan, unit='nJy', uncertainty=flat), 'NO_PIXELS', id='all NaN'
        ),
        pytest.param(NDData(good, unit='nJy', uncertainty=zeros), 'BAD_NOISE', id='zero noise'),
        pytest.param(
            NDData(good, unit='nJy', uncertainty=flat, psf=np.zeros((9, 9))),
            'BAD_PSF',
            id='zero PSF',
        ),
    ]


def test_positions_on_one_image(estimator, make_ccd):
    """Each is measured as in a stamp that is cut by hand."""
    image = make_ccd((120, 170), centre=(60.3, 50.1))
    image.data += make_ccd((120, 170), centre=(125.0, 70.0)).data
    positions = [(60.3, 50.1), (500.0, 20.0), (125.0, 70.0)]
    table = estimator.measure(image, positions=positions, stamp_size=61)
    windows = [(30, 20), (95, 40)]
    alone = estimator.measure(
        [image[y0 : y0 + 61, x0 : x0 + 61] for x0, y0 in windows],
        positions=[(30.3, 30.1), (30.0, 30.0)],
    )
    np.testing.assert_allclose(table['flux'][[0, 2]], alone['flux'], rtol=1e-6)
    np.testing.assert_array_equal(table['flags'][[0, 2]], alone['flags'])
    np.testing.assert_allclose(np.transpose([table['x'], table['y']]), positions)
    assert np.isnan(table['flux'][1])
    assert decode_flags(table['flags'])[1] == ('OFF_CENTRE', 'NO_PIXELS')
    assert 'off the image' in table.meta['messages'][1]


@pytest.mark.parametrize(('item', 'flag'), bad_items())
@pytest.mark.parametrize('where', [0, 2, 6])
def test_bad_item_harms_no_other(estimator, many, item, flag, where):
    expected = estimator.measure(many)
    table = estimator.measure([*many[:where], item, *many[where:]])
    assert len(table) == len(many) + 1
    assert table['flux'].unit == u.nJy
    assert flag in decode_flags(table['flags'])[where]
    assert list(table.meta['messages']) == [where]
    assert table.meta['messages'][where]
    for name in table.colnames:
        if table[name].dtype.kind == 'f':
            assert np.isnan(table[name][where])
    rest = np.delete(np.arange(len(table)), where)
    np.testing.assert_allclose(table['flux'][rest].value, expected['flux'].value, rtol=1e-5)
    np.testing.assert_array_equal(table['flags'][rest], expected['flags'])


def test_all_bad(estimator):
    bad = NDData(np.full((40, 40), np.nan), unit='nJy')
    table = estimator.measure([bad, bad])
    assert np.all(np.isnan(table['flux']))
    assert table['flux'].unit == u.nJy
    with pytest.warns(AstropyUserWarning, match='1 of 1 cutouts was not measured: '):
        flux = estimator.predict(bad)
    assert np.isnan(flux)
    assert flux.isscalar


def test_nan_if_and_only_if_fatal(estimator, many, make_ccd):
    noise = make_ccd(flux=0.0, seed=5)
    table = estimator.measure([*many, noise, many[0], 'no_such_file.fits'])
    fatal = table['flags'] & FATAL_FLAGS != 0
    np.testing.assert_array_equal(np.isnan(table['flux']), fatal)
    assert set(table.meta['messages']) == set(np.flatnonzero(fatal))


def test_pure_noise_is_flagged(estimator, make_ccd):
    names = decode_flags(estimator.measure(make_ccd(flux=0.0, seed=3))['flags'])[0]
    assert {'LOW_SNR', 'NOT_DETECTED'} & set(names)


def test_masked_pixels(estimator, make_ccd):
    mask = np.zeros((61, 61), bool)
    mask[5:8, 5:8] = True
    ccd = make_ccd(mask=mask)
    ccd.data[mask] = 1e6
    ccd.data[50, 50] = np.nan
    table = estimator.measure(ccd)
    assert 'MASKED_PIXELS' in decode_flags(table['flags'])[0]
    np.testing.assert_allclose(table['flux'][0], estimator.predict(make_ccd()), rtol=0.03)


# -- streams -----------------------------------------------------------------------------------


def test_generator_is_streamed(estimator, make_ccd, monkeypatch):
    batch_size = getattr(estimator, 'batch_size', 1)
    if batch_size > 1:
        estimator.set_params(batch_size=2)
        batch_size = 2
    n_cutouts, given, done, ahead = 9, 0, 0, []
    measure_batch = estimator._measure_batch

    def source():
        nonlocal given
        for seed in range(n_cutouts):
            given += 1
            yield make_ccd(seed=seed)

    def counted(cutouts):
        nonlocal done
        ahead.append(given - done)
        results = measure_batch(cutouts)
        done += len(cutouts)
        return results

    monkeypatch.setattr(estimator, '_measure_batch', counted)
    table = estimator.measure(source())
    assert len(table) == n_cutouts
    assert max(ahead) <= batch_size + 1


def test_cutouts_are_released(estimator, make_ccd):
    # counted by reference: what the estimator keeps would stay alive
    alive = weakref.WeakSet()
    most = 0

    def source():
        nonlocal most
        for seed in range(12):
            ccd = make_ccd(seed=seed)
            alive.add(ccd)
            most = max(most, len(alive))
            yield ccd
            del ccd

    if hasattr(estimator, 'batch_size'):
        estimator.set_params(batch_size=2)
    estimator.measure(source())
    assert most <= 5


def test_bad_batch_size(estimator, make_ccd):
    if not hasattr(estimator, 'batch_size'):
        pytest.skip('measures one cutout at a time')
    estimator.set_params(batch_size=0)
    with pytest.raises(ValueError, match='batch_size must be a positive integer, got 0'):
        estimator.predict(make_ccd())


def test_progress(estimator, make_ccd, monkeypatch):
    ccds = [make_ccd(seed=seed) for seed in range(3)]
    stack = np.array([ccd.data for ccd in ccds])
    with redirect_stderr(io.StringIO()) as stream:
        estimator.measure(stack, progress=True)
    assert '3/3' in stream.getvalue()
    # without a wish, it is told only if the call takes long
    cases = ((True, 1e6, '3/3'), (False, 0, ''), (None, 1e6, ''), (None, 0, '3/3'))
    for progress, delay, expected in cases:
        monkeypatch.setattr(_progress, 'LOG_INTERVAL', delay)
        with redirect_stderr(io.StringIO()) as stream:
            estimator.measure(ccds, progress=progress)
        assert expected in stream.getvalue()
        assert bool(stream.getvalue()) == bool(expected)


# -- scikit-learn ------------------------------------------------------------------------------


def test_docstrings_say_all(estimator):
    # texts that several have in common stand in each of them, in the order of the signature
    cls = type(estimator)
    for item in (cls, cls.predict, cls.measure, cls.fit, cls.score, cls.save, cls.load):
        lines = inspect.getdoc(item).splitlines()
        assert not [line for line in lines if re.fullmatch(r' *\{\w+\}', line)]
        named = [line.split(' : ')[0] for line in lines if re.match(r'\w.* : ', line)]
        known = list(inspect.signature(item).parameters)
        documented = [name for text in named for name in text.split(', ') if name in known]
        assert documented == [name for name in known if name != 'self']


def test_constructor_only_stores(estimator):
    for name, value in estimator.get_params(deep=False).items():
        assert getattr(estimator, name) is value
    assert not [name for name in vars(estimator) if name.endswith('_')]


def test_clone_and_set_params(estimator):
    again = clone(estimator)
    assert again is not estimator
    assert again.get_params() == estimator.get_params()
    name, value = next(iter(estimator.get_params().items()))
    assert again.set_params(**{name: value}) is again


def test_repr(estimator):
    assert repr(estimator).startswith(type(estimator).__name__ + '(')
    assert '0x' not in repr(estimator)


def test_html(estimator):
    # what a notebook shows
    assert type(estimator).__name__ in estimator._repr_html_()


def test_is_fitted(estimator):
    if not hasattr(estimator, '__sklearn_is_fitted__'):
        pytest.xfail('scikit-learn looks for fitted attributes and does not know of weights')
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        pytest.fail('an estimator that can predict must count as fitted')


def test_score(estimator, many):
    truth = 1500.0 * 1.5 ** np.arange(len(many)) * u.nJy
    score = estimator.score(many, truth)
    assert isinstance(score, float)
    assert 0.9 < score <= 1
    np.testing.assert_allclose(estimator.score(many, truth.to(u.Jy)), score)


def test_cross_validation(estimator, many):
    if type(estimator).__name__ in TRAINED:
        pytest.skip('training takes too long, or wants more galaxies')
    from sklearn.model_selection import cross_val_score

    truth = 1500.0 * 1.5 ** np.arange(len(many)) * u.nJy
    assert np.all(cross_val_score(estimator, many, truth, cv=2) > 0.8)


def test_score_says_what_is_left_out(estimator, many):
    truth = 1500.0 * 1.5 ** np.arange(len(many)) * u.nJy
    with pytest.warns(AstropyUserWarning, match='1 of 7 cutouts have no positive flux measured'):
        score = estimator.score([*many, 'no_such_file.fits'], [*truth, 1 * u.nJy])
    np.testing.assert_allclose(score, estimator.score(many, truth))


@pytest.mark.parametrize('method', ['score', 'fit'])
def test_flux_must_match(estimator, many, method):
    call = getattr(estimator, method)
    truth = np.full(len(many), 100.0)
    with pytest.raises(u.UnitsError, match="flux has the unit '', but the cutouts have 'nJy'"):
        call(many, truth)
    with pytest.raises(u.UnitsError, match="flux has the unit 'm', but the cutouts have 'nJy'"):
        call(many, truth * u.m)
    with pytest.raises(ValueError, match='one value per cutout: got shape'):
        call(many, truth[:-1] * u.nJy)
    with pytest.raises(ValueError, match='positive and finite'):
        call(many, -truth * u.nJy)


def test_every_long_call_tells_its_progress(estimator, many):
    if hasattr(estimator, 'epochs'):
        estimator.set_params(epochs=1)
    n = 6 if type(estimator).__name__ != 'RegressionFluxEstimator' else 24
    cutouts, truth = many * (n // 6), np.tile(1500.0 * 1.5 ** np.arange(6), n // 6) * u.nJy
    for call in (estimator.predict, estimator.score, estimator.fit):
        arguments = [cutouts] if call == estimator.predict else [cutouts, truth]
        with redirect_stderr(io.StringIO()) as stream:
            call(*arguments, progress=True)
        assert f'{n}/{n}' in stream.getvalue()
    with redirect_stderr(io.StringIO()) as stream:
        estimator.fit(cutouts, truth, progress=False)
    assert stream.getvalue() == ''


def test_predict_says_what_is_missing(estimator, make_ccd, tmp_path):
    cutouts = [make_ccd(), tmp_path / 'no_such_file.fits', np.zeros((61, 3))]
    with pytest.warns(
        AstropyUserWarning,
        match=r'^2 of 3 cutouts were not measured: 1 UNREADABLE, 1 BAD_INPUT; measure\(\) says',
    ) as record:
        flux = estimator.predict(cutouts)
    # once a call, and of the line that called
    assert [warning.filename for warning in record] == [__file__]
    np.testing.assert_array_equal(np.isnan(flux), [False, True, True])
    # the table says it itself
    assert len(estimator.measure(cutouts).meta['messages']) == 2


def test_save_replaces_only_if_told(estimator, tmp_path):
    path = tmp_path / 'estimator'
    path.write_text('of another')
    with pytest.raises(OSError, match=r"/estimator' exists; overwrite=True replaces it"):
        estimator.save(path)
    assert path.read_text() == 'of another'
    estimator.save(path, overwrite=True)
    assert type(type(estimator).load(path)) is type(estimator)


def test_save_and_load(estimator, many, tmp_path):
    path = tmp_path / 'estimator'
    estimator.save(path)
    again = type(estimator).load(path)
    assert type(again) is type(estimator)
    np.testing.assert_array_equal(again.predict(many).value, estimator.predict(many).value)


def test_load_missing_file(estimator, make_ccd, tmp_path):
    # at the latest when it is used: weights load lazily
    with pytest.raises((OSError, ValueError), match='no_such_file'):
        type(estimator).load(tmp_path / 'no_such_file').predict(make_ccd())


def test_flags_are_integers_of_the_registry(estimator, many):
    for value in estimator.measure(many)['flags']:
        assert MeasurementFlag(int(value)) == value


def test_an_error_of_a_library_loses_no_other_row(estimator, make_ccd, monkeypatch):
    """Whatever it is: each cutout is measured by itself then, and the odd one has failed."""
    measure_batch = type(estimator)._measure_batch

    def fail_for_the_odd(self, cutouts):
        if any(cutout.label == 'odd' for cutout in cutouts):
            msg = 'no factor of the matrix'
            raise RuntimeError(msg)
        return measure_batch(self, cutouts)

    ccds = [make_ccd(seed=seed) for seed in range(3)]
    alone = estimator.measure(ccds[::2])
    ccds[1].meta['id'] = 'odd'
    monkeypatch.setattr(type(estimator), '_measure_batch', fail_for_the_odd)
    table = estimator.measure(ccds)
    np.testing.assert_allclose(table['flux'][::2].value, alone['flux'].value, rtol=1e-5)
    assert 'FAILED' in decode_flags(table['flags'])[1]
    assert table.meta['messages'] == {1: 'the method failed: RuntimeError: no factor of the matrix'}


def test_an_error_of_the_call_is_raised(estimator, make_ccd, monkeypatch):
    def fail(self, cutouts):
        msg = 'a library is missing'
        raise ImportError(msg)

    monkeypatch.setattr(type(estimator), '_measure_batch', fail)
    with pytest.raises(ImportError, match='a library is missing'):
        estimator.measure(make_ccd())
