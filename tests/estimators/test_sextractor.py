# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
import shutil
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from photutils.segmentation import make_2dgaussian_kernel

from astroflux import SEPFluxEstimator, SExtractorFluxEstimator, decode_flags
from astroflux.estimators import SourceFinder
from astroflux.estimators.photometry.sep import _fill

sep = pytest.importorskip('sep')

PROGRAM = shutil.which('source-extractor') or shutil.which('sex')
needs_program = pytest.mark.skipif(not PROGRAM, reason='the program SExtractor is not installed')


def by_hand(ccd, *, mask=None, fwhm=None, filter_type='matched', neighbors='none'):
    """As in the documentation of sep."""
    data, noise = ccd.data, ccd.uncertainty.array
    kernel = np.array([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    if fwhm:
        kernel = make_2dgaussian_kernel(fwhm, size=2 * int(np.ceil(1.5 * fwhm)) + 1).array
    objects, segments = sep.extract(
        data,
        1.5,
        err=noise,
        mask=mask,
        filter_kernel=kernel,
        filter_type=filter_type,
        segmentation_map=True,
    )
    ny, nx = data.shape
    label = segments[ny // 2, nx // 2]
    found = objects[label - 1 : label]
    ellipse = [found[name] for name in ('x', 'y', 'a', 'b', 'theta')]
    if mask is not None:
        data, noise = (np.where(mask, 0.0, image) for image in (data, noise))
    kron_radius, _ = sep.kron_radius(data, *ellipse, 6.0)
    radius = np.maximum(2.5 * kron_radius, 3.5)
    flux, flux_err, _ = sep.sum_ellipse(data, *ellipse, radius, err=noise, subpix=1)
    return flux[0], flux_err[0], found, kron_radius[0]


def crowded(make_ccd, draw_galaxy, *, mask=None, sigma=1.0):
    ccd = make_ccd((91, 81), flux=5000.0, mask=mask, sigma=sigma)
    ccd.data += draw_galaxy((91, 81), flux=2500.0, scale=1.5, centre=(53.0, 52.0))
    ccd.data += draw_galaxy((91, 81), flux=1500.0, scale=1.5, centre=(15.0, 70.0))
    ccd.data += draw_galaxy((91, 81), flux=1800.0, scale=1.5, centre=(22.0, 64.0))
    return ccd


# -- the library -------------------------------------------------------------------------------


@pytest.mark.parametrize('fwhm', [None, 4.7])
@pytest.mark.parametrize('filter_type', ['matched', 'conv'])
@pytest.mark.parametrize('flux', [1000.0, 20000.0])
def test_parity(make_ccd, fwhm, filter_type, flux):
    ccd = make_ccd(seed=3, flux=flux)
    estimator = SEPFluxEstimator(filter_type=filter_type, neighbors='none')
    table = estimator.measure(ccd, psf_fwhm=fwhm)
    expected, expected_err, found, kron_radius = by_hand(ccd, fwhm=fwhm, filter_type=filter_type)
    np.testing.assert_allclose(table['flux'][0].value, expected, rtol=1e-8)
    np.testing.assert_allclose(table['flux_err'][0].value, expected_err, rtol=1e-8)
    np.testing.assert_allclose(table['kron_radius'], max(kron_radius, 1.4), rtol=1e-8)
    np.testing.assert_allclose(table['axis_ratio'], found['b'] / found['a'], rtol=1e-6)
    assert table.meta['versions']['sep'] == sep.__version__


def test_parity_mask_and_noise_map(make_ccd, draw_galaxy):
    mask = np.zeros((91, 81), bool)
    mask[43:46, 44:48] = True
    ccd = crowded(make_ccd, draw_galaxy, mask=mask)
    noise = np.linspace(0.8, 1.3, 91)[:, np.newaxis] * np.ones((91, 81))
    ccd = CCDData(ccd.data, unit='adu', mask=mask, uncertainty=StdDevUncertainty(noise))
    expected, expected_err, _, _ = by_hand(ccd, mask=mask)
    table = SEPFluxEstimator(neighbors='none').measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, expected, rtol=1e-8)
    np.testing.assert_allclose(table['flux_err'][0].value, expected_err, rtol=1e-8)
    assert {'NEIGHBOUR', 'MASKED_PIXELS'} <= set(decode_flags(table['flags'])[0])


def test_fill():
    image = np.arange(35.0).reshape(5, 7)
    unusable = np.zeros((5, 7), bool)
    unusable[0, 1] = unusable[2, 2] = unusable[2, 4] = True
    filled = _fill(image, unusable, 3.0, 2.0, 'correct')
    assert filled[0, 1] == image[4, 5]
    # the opposite pixels are unusable, too
    assert filled[2, 2] == filled[2, 4] == 0
    # the opposite pixel is outside the stamp
    assert _fill(image, unusable, 5.0, 2.0, 'correct')[0, 1] == 0
    masked = _fill(image, unusable, 3.0, 2.0, 'mask')
    np.testing.assert_array_equal(masked, np.where(unusable, 0, image))
    assert _fill(image, np.zeros((5, 7), bool), 3.0, 2.0, 'mask') is image


def test_known_flux(make_ccd):
    # MAG_AUTO misses some per cent of the light of a disc
    flux = SEPFluxEstimator().predict(make_ccd((141, 141), flux=1e5, sigma=0.3))
    assert 0.96 < flux.value / 1e5 < 1.0


def test_gaussian():
    y, x = np.mgrid[-40:41, -40:41]
    image = 1e6 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.ones((81, 81))))
    np.testing.assert_allclose(SEPFluxEstimator().predict(ccd).value, 1e6, rtol=3e-3)


def test_neighbours(make_ccd, draw_galaxy):
    shape = (81, 81)
    ccd = make_ccd(shape, flux=5000.0, sigma=0.5)
    alone = SEPFluxEstimator().predict(ccd)
    ccd.data += draw_galaxy(shape, flux=4000.0, scale=1.2, centre=(54.0, 40.0))
    flux = {
        method: SEPFluxEstimator(neighbors=method).predict(ccd).value
        for method in ('correct', 'mask', 'none')
    }
    assert flux['mask'] < flux['correct'] < flux['none']
    assert abs(flux['correct'] / alone.value - 1) < 0.1
    assert 'NEIGHBOUR' in decode_flags(SEPFluxEstimator().measure(ccd)['flags'])[0]


def test_no_deblending(make_ccd, draw_galaxy):
    ccd = make_ccd((81, 81), flux=5000.0, sigma=0.5)
    ccd.data += draw_galaxy((81, 81), flux=4000.0, scale=1.2, centre=(54.0, 40.0))
    together = SEPFluxEstimator(finder=SourceFinder(deblend=False)).predict(ccd).value
    np.testing.assert_allclose(together, 9000, rtol=0.05)


def test_aperture_beyond_the_stamp(make_ccd):
    table = SEPFluxEstimator().measure(make_ccd((24, 24), flux=2e4, scale=3.0))
    assert 'OUT_OF_RANGE' in decode_flags(table['flags'])[0]


def test_least_circle(make_ccd):
    for estimator in all_estimators(min_radius=20.0):
        table = estimator.measure(make_ccd())
        assert table['semimajor_axis'][0] == 20 * u.pix
        assert table['axis_ratio'][0] == 1
        np.testing.assert_allclose(table['flux'][0].value, 2000, rtol=0.1)


def test_columns(make_ccd):
    table = SEPFluxEstimator().measure(make_ccd(wcs=True))
    assert table.colnames[-3:] == ['kron_radius', 'semimajor_axis', 'axis_ratio']
    assert table['semimajor_axis'].unit == u.arcsec


def test_not_detected(make_ccd):
    for estimator in all_estimators():
        table = estimator.measure([make_ccd(centre=(50.0, 10.0)), make_ccd()])
        if isinstance(estimator, SExtractorFluxEstimator):
            assert 'NOT_DETECTED' in decode_flags(table['flags'])[0]
            assert 'no source within 5 pixels of the position' in table.meta['messages'][0]
        assert np.isfinite(table['flux'][1])


def test_nothing_detected(make_ccd):
    ccd = make_ccd(flux=0.0)
    for estimator in all_estimators(finder=SourceFinder(n_sigma=50.0)):
        table = estimator.measure(ccd)
        assert 'NOT_DETECTED' in decode_flags(table['flags'])[0]


def test_exception_of_sep_costs_one_row(make_ccd, monkeypatch):
    ccds = [make_ccd(seed=seed) for seed in range(3)]
    extract, calls = sep.extract, []

    def failing(*args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            msg = 'object deblending overflow'
            raise Exception(msg)
        return extract(*args, **kwargs)

    monkeypatch.setattr(sep, 'extract', failing)
    table = SEPFluxEstimator().measure(ccds)
    assert 'FAILED' in decode_flags(table['flags'])[1]
    assert table.meta['messages'] == {1: 'sep: object deblending overflow'}
    assert np.isfinite(table['flux'][[0, 2]]).all()


def test_fault_of_the_program_is_not_hidden(make_ccd, monkeypatch):
    monkeypatch.setattr(sep, 'extract', lambda: None)
    with pytest.raises(TypeError):
        SEPFluxEstimator().predict(make_ccd())


def test_missing_package(make_ccd, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sep', None)
    with pytest.raises(ImportError, match=r"sep is needed.*'astroflux\[compare\]'"):
        SEPFluxEstimator().predict(make_ccd())


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'finder__n_sigma': 0}, 'n_sigma must be positive, got 0'),
        ({'finder__n_pixels': 1.5}, 'n_pixels must be a positive integer, got 1.5'),
        ({'auto_params': (1, 2, 3)}, r'auto_params must be two numbers, got \(1, 2, 3\)'),
        ({'min_radius': -1}, 'min_radius must not be negative, got -1'),
        ({'neighbors': 'remove'}, "neighbors must be 'correct', 'mask' or 'none', got 'remove'"),
    ],
)
@pytest.mark.parametrize('cls', [SEPFluxEstimator, SExtractorFluxEstimator])
def test_bad_params(make_ccd, cls, params, text):
    with pytest.raises(ValueError, match=text):
        cls().set_params(**params).predict(make_ccd())


def test_bad_filter_type(make_ccd):
    with pytest.raises(ValueError, match="filter_type must be 'matched' or 'conv', got 'box'"):
        SEPFluxEstimator(filter_type='box').predict(make_ccd())


# -- the program -------------------------------------------------------------------------------


def all_estimators(**params):
    estimators = [SEPFluxEstimator(**params)]
    if PROGRAM:
        estimators.append(SExtractorFluxEstimator(**params))
    return estimators


@needs_program
@pytest.mark.parametrize('fwhm', [None, 4.0])
def test_library_is_like_the_program(many, fwhm):
    library = SEPFluxEstimator(filter_type='conv').measure(many, psf_fwhm=fwhm)
    program = SExtractorFluxEstimator().measure(many, psf_fwhm=fwhm)
    for name in ('flux', 'flux_err', 'kron_radius', 'semimajor_axis', 'axis_ratio'):
        np.testing.assert_allclose(library[name].value, program[name].value, rtol=1e-3)
    assert 'Source Extractor' in program.meta['program'] or 'SExtractor' in program.meta['program']


@needs_program
@pytest.mark.parametrize('neighbors', ['correct', 'mask', 'none'])
@pytest.mark.parametrize('deblend', [True, False])
def test_library_is_like_the_program_when_crowded(make_ccd, draw_galaxy, neighbors, deblend):
    ccd = crowded(make_ccd, draw_galaxy)
    params = {
        'neighbors': neighbors,
        'finder': SourceFinder(contrast=0.005, deblend=deblend),
    }
    library = SEPFluxEstimator(filter_type='conv', **params).measure(ccd)
    program = SExtractorFluxEstimator(**params).measure(ccd)
    np.testing.assert_allclose(library['flux'].value, program['flux'].value, rtol=0.01)
    np.testing.assert_allclose(library['flux_err'].value, program['flux_err'].value, rtol=0.01)
    assert ('NEIGHBOUR' in decode_flags(program['flags'])[0]) == deblend


@needs_program
@pytest.mark.parametrize('neighbors', ['correct', 'mask', 'none'])
def test_library_is_like_the_program_with_a_mask(make_ccd, neighbors):
    mask = np.zeros((61, 61), bool)
    mask[24:26, 34:37] = True
    mask[40:50, 10:20] = True
    ccd = make_ccd(flux=20000.0, mask=mask)
    ccd.data[mask] = 1e5
    library = SEPFluxEstimator(filter_type='conv', neighbors=neighbors).measure(ccd)
    program = SExtractorFluxEstimator(neighbors=neighbors).measure(ccd)
    # the program counts no masked pixel to the isophote, whose moments are a little different
    np.testing.assert_allclose(library['flux'].value, program['flux'].value, rtol=0.01)
    np.testing.assert_allclose(library['flux_err'].value, program['flux_err'].value, rtol=0.03)


@needs_program
def test_library_and_program_have_the_same_defaults():
    library, program = SEPFluxEstimator().get_params(), SExtractorFluxEstimator().get_params()
    for name in ('auto_params', 'min_radius', 'neighbors', 'finder'):
        assert program[name] == library[name]
    # the program's own
    assert library['auto_params'] == (2.5, 3.5)
    assert library['min_radius'] == 3.5 / 2


def test_no_filter(make_ccd):
    ccd = make_ccd(flux=20000.0)
    library = SEPFluxEstimator(finder=SourceFinder(kernel_fwhm=0)).predict(ccd)
    program = SExtractorFluxEstimator(finder=SourceFinder(kernel_fwhm=0)).predict(ccd)
    np.testing.assert_allclose(library.value, program.value, rtol=1e-3)


@needs_program
def test_flags_of_the_program(make_ccd):
    table = SExtractorFluxEstimator().measure(make_ccd((24, 24), flux=2e4, scale=3.0))
    assert 'OUT_OF_RANGE' in decode_flags(table['flags'])[0]


@needs_program
def test_failure_of_the_program_costs_one_row(make_ccd, tmp_path):
    count = tmp_path / 'count'
    script = tmp_path / 'program'
    script.write_text(
        f'#!/bin/sh\n'
        f'echo x >> {count}\n'
        f'if [ $(wc -l < {count}) -eq 2 ]; then echo "no memory left" >&2; exit 3; fi\n'
        f'exec {PROGRAM} "$@"\n'
    )
    script.chmod(0o755)
    ccds = [make_ccd(seed=seed) for seed in range(3)]
    expected = SExtractorFluxEstimator().predict(ccds)
    table = SExtractorFluxEstimator(executable=str(script)).measure(ccds)
    assert 'FAILED' in decode_flags(table['flags'])[1]
    assert table.meta['messages'] == {1: f"'{script}' failed with code 3: no memory left"}
    np.testing.assert_array_equal(table['flux'][[0, 2]], expected[[0, 2]])


def test_no_file_says_which_program_runs(make_ccd, tmp_path):
    path, trace = tmp_path / 'saved.json', tmp_path / 'trace'
    script = tmp_path / 'program'
    script.write_text(f'#!/bin/sh\ntouch {trace}\n')
    script.chmod(0o755)
    SExtractorFluxEstimator(min_radius=2.0, executable=str(script)).save(path)
    assert str(script) not in path.read_text()
    again = SExtractorFluxEstimator.load(path)
    assert again.executable is None
    assert again.min_radius == 2.0
    content = json.loads(path.read_text())
    content['params']['executable'] = str(script)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"takes from no file: \['executable'\]"):
        SExtractorFluxEstimator.load(path)
    assert not trace.exists()


def test_missing_program(make_ccd, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no 'no_such_program'"):
        SExtractorFluxEstimator(executable='no_such_program').predict(make_ccd())
    monkeypatch.setenv('PATH', '')
    text = "no 'source-extractor' nor 'sex'; install it, for instance the Debian package"
    with pytest.raises(FileNotFoundError, match=text):
        SExtractorFluxEstimator().predict(make_ccd())
