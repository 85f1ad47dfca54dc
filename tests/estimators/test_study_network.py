# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network of the study as an estimator: it keeps the contract, but for proportionality."""

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty

from astroflux import CNNFluxEstimator, decode_flags
from astroflux.networks import load_weights, save_weights
from astroflux.networks.study_net import SIDE, StudyNet

RMS = 0.2


def write(path, metadata=None, **settings):
    """An untrained network whose answers are about 3.2 for bright galaxies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = StudyNet(**settings)
    with torch.no_grad():
        network.output.bias.fill_(3.0)
    save_weights(path, network, name='study-test', metadata=metadata)
    return path


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study-network')
    return write(folder / 'study.safetensors', {'test_rms_dex': RMS, 'log_flux_range': [0, 4.5]})


@pytest.fixture
def estimator(path):
    return CNNFluxEstimator(weights=path)


@pytest.fixture
def make_adu(make_ccd):
    def make(shape=(SIDE, SIDE), **options):
        return make_ccd(shape, unit='adu', sigma=0.05, **options)

    return make


def answer(path, image):
    """What the network itself says of one image, in ADU."""
    network = load_weights(path).network
    with torch.inference_mode():
        return 10 ** float(network(torch.as_tensor(image, dtype=torch.float32)[None, None])[0])


# -- what it sees ------------------------------------------------------------------------------


def test_sees_raw_pixels(estimator, path, make_adu):
    ccd = make_adu(flux=9000.0)
    flux = estimator.predict(ccd)
    assert flux.unit == u.adu
    assert flux.value == pytest.approx(answer(path, ccd.data), rel=1e-5)


def test_is_not_proportional(estimator, path, make_adu):
    """As its notes say: this is what the network of the study gets wrong."""
    ccd = make_adu(flux=9000.0)
    double = CCDData(
        2 * ccd.data, unit='adu', uncertainty=StdDevUncertainty(2 * ccd.uncertainty.array)
    )
    assert estimator.predict(double).value == pytest.approx(answer(path, 2 * ccd.data), rel=1e-5)
    ratio = estimator.predict(double) / estimator.predict(ccd)
    assert abs(ratio - 2) > 0.1


def test_noise_and_psf_do_not_matter(estimator, make_adu):
    ccd = make_adu(flux=9000.0)
    other = CCDData(ccd.data, unit='adu', uncertainty=StdDevUncertainty(np.full(ccd.shape, 3.0)))
    assert estimator.predict(ccd) == estimator.predict(other, psf_fwhm=7.0)


def test_larger_cutout(estimator, path, make_adu):
    ccd = make_adu((201, 170), flux=9000.0, centre=(90, 95))
    table = estimator.measure(ccd, positions=(90.3, 94.6))
    around = ccd.data[95 - 71 : 95 + 72, 90 - 71 : 90 + 72]
    assert table['flux'][0].value == pytest.approx(answer(path, around), rel=1e-5)
    assert 'STAMP_CROPPED' in decode_flags(table['flags'][0])


@pytest.mark.parametrize('shape', [(61, 61), (143, 90), (33, 40)])
def test_smaller_cutout_is_filled_with_zeros(estimator, path, make_adu, shape):
    ccd = make_adu(shape, flux=9000.0)
    ny, nx = shape
    table = estimator.measure(ccd, positions=(nx // 2, ny // 2))
    filled = np.zeros((SIDE, SIDE))
    filled[71 - ny // 2 : 71 - ny // 2 + ny, 71 - nx // 2 : 71 - nx // 2 + nx] = ccd.data
    assert table['flux'][0].value == pytest.approx(answer(path, filled), rel=1e-5)
    assert 'STAMP_CROPPED' not in decode_flags(table['flags'][0])


def test_position_beyond_the_cutout(estimator, make_adu):
    table = estimator.measure([make_adu(), make_adu()], positions=[(900, 900), (71, 71)])
    assert 'OFF_CENTRE' in decode_flags(table['flags'][0])
    assert np.isfinite(table['flux'][1])


def test_masked_pixels_are_zero(estimator, path, make_adu):
    ccd = make_adu(flux=9000.0)
    ccd.mask = np.zeros(ccd.shape, bool)
    ccd.mask[60:64, 80:85] = True
    ccd.data[ccd.mask] = 1e6
    ccd.data[20, 20] = np.nan
    expected = np.where(ccd.mask | np.isnan(ccd.data), 0, ccd.data)
    table = estimator.measure(ccd)
    assert table['flux'][0].value == pytest.approx(answer(path, expected), rel=1e-5)
    assert 'MASKED_PIXELS' in decode_flags(table['flags'][0])


# -- the table ---------------------------------------------------------------------------------


def test_columns_are_those_of_the_other_weights(estimator, make_adu):
    table = estimator.measure(make_adu(flux=9000.0))
    assert table.colnames == CNNFluxEstimator().measure(make_adu(flux=9000.0)).colnames
    for name in table.colnames:
        if name.startswith(('half_light', 'concentration', 'bulge', 'novelty')):
            assert np.isnan(table[name][0])
    assert table.meta['weights'] == 'study-test'


def test_errors_are_the_scatter_of_its_test_set(estimator, make_adu):
    row = estimator.measure(make_adu(flux=9000.0))[0]
    flux = row['flux'].value
    assert row['flux_lower'].value == pytest.approx(flux * 10**-RMS)
    assert row['flux_upper'].value == pytest.approx(flux * 10**RMS)
    assert row['flux_lower_95'].value == pytest.approx(flux * 10 ** (-1.95996 * RMS))
    assert row['flux_upper_95'].value == pytest.approx(flux * 10 ** (1.95996 * RMS))
    assert row['flux_err'] == (row['flux_upper'] - row['flux_lower']) / 2


@pytest.mark.parametrize('metadata', [None, {'test_rms_dex': None}])
def test_errors_that_nobody_knows_are_nan(make_adu, tmp_path, metadata):
    row = CNNFluxEstimator(write(tmp_path / 'a.safetensors', metadata)).measure(make_adu())[0]
    assert np.isfinite(row['flux'])
    for name in ('flux_err', 'flux_lower', 'flux_upper', 'flux_lower_95', 'snr'):
        assert np.isnan(row[name])


@pytest.mark.parametrize(('highest', 'outside'), [(4.5, False), (2.0, True)])
def test_beyond_the_fluxes_of_the_training(make_adu, tmp_path, highest, outside):
    path = write(tmp_path / 'a.safetensors', {'log_flux_range': [0, highest]})
    table = CNNFluxEstimator(path).measure(make_adu(flux=9000.0))
    assert ('OUT_OF_RANGE' in decode_flags(table['flags'][0])) == outside


def test_order_and_batches(path, make_adu):
    many = [make_adu(flux=2000.0 * k, seed=k, shape=(140 + k, 143)) for k in range(1, 6)]
    flux = CNNFluxEstimator(path, batch_size=2).predict(many)
    one_by_one = [CNNFluxEstimator(path).predict(ccd).value for ccd in many]
    np.testing.assert_allclose(flux.value, one_by_one, rtol=1e-5)


def test_bad_cutouts_have_rows(estimator, make_adu):
    table = estimator.measure([make_adu(), 'no_such_file.fits', np.full((50, 50), np.nan) * u.adu])
    assert np.isnan(table['flux']).tolist() == [False, True, True]
    assert set(table.meta['messages']) == {1, 2}


def test_too_bright_for_a_number(path, make_adu, tmp_path):
    network = load_weights(path).network
    with torch.no_grad():
        network.output.weight.abs_()
    save_weights(tmp_path / 'positive.safetensors', network, name='positive')
    ccd = make_adu()
    ccd.data *= 1e30
    table = CNNFluxEstimator(tmp_path / 'positive.safetensors').measure([ccd, make_adu()])
    assert np.isnan(table['flux']).tolist() == [True, False]
    assert 'FAILED' in decode_flags(table['flags'][0])


def test_save_and_load(estimator, make_adu, tmp_path):
    estimator.save(tmp_path / 'again.safetensors')
    again = CNNFluxEstimator.load(tmp_path / 'again.safetensors').measure(make_adu())
    expected = estimator.measure(make_adu())
    assert again['flux'] == expected['flux']
    assert again['flux_err'] == expected['flux_err']


# -- what it refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('unit', 'given'), [('nJy', "the unit 'nJy'"), ('electron', 'electron'), (None, 'no unit')]
)
def test_other_units(estimator, make_adu, unit, given):
    ccd = make_adu()
    cutout = ccd.data if unit is None else CCDData(ccd.data, unit=unit)
    with pytest.raises(u.UnitsError, match=r'know pixels in adu at the zero point 27') as error:
        estimator.predict(cutout)
    assert given in str(error.value)
    # 10**(-0.4 (27 - 8.9)) Jy
    assert '1 adu is 57.5' in str(error.value)


def test_surface_brightness_of_adu(estimator, path, make_adu):
    ccd = make_adu(flux=9000.0)
    flux = estimator.predict(CCDData(ccd.data, unit='adu / pix'))
    assert flux.unit == u.adu
    assert flux.value == pytest.approx(answer(path, ccd.data), rel=1e-5)


def test_refuses_fit_and_weight_map(estimator, make_adu):
    ccds = [make_adu(seed=seed) for seed in range(3)]
    with pytest.raises(ValueError, match="fit is not possible with the weights 'study-test'"):
        estimator.fit(ccds, [1, 2, 3] * u.adu)
    with pytest.raises(ValueError, match='weight_map is not possible with the weights'):
        estimator.weight_map(ccds[0])


def test_network_that_needs_columns(make_adu, tmp_path):
    path = write(tmp_path / 'joined.safetensors', n_columns=2)
    with pytest.raises(ValueError, match="'study-test' need 2 known columns per galaxy"):
        CNNFluxEstimator(path).predict(make_adu())


# -- the weights that ship ---------------------------------------------------------------------


def test_shipped_weights_measure_galaxies_of_the_study():
    pytest.importorskip('galsim')
    from astroflux.study.catalogue import StudySettings, draw_catalogue
    from astroflux.study.dataset import crop_centre, draw_image

    # a seed that nothing was trained on
    settings = StudySettings(n_train=1, n_test=19, seed=77)
    rows = draw_catalogue(settings).to_dict('records')
    ccds = [
        CCDData(
            crop_centre(draw_image(row, settings)),
            unit='adu',
            uncertainty=StdDevUncertainty(np.full((SIDE, SIDE), 0.05)),
        )
        for row in rows
    ]
    table = CNNFluxEstimator(weights='study-2024').measure(ccds)
    assert table.meta['weights'] == 'study-2024'
    error = np.log10(table['flux'].value) - [row['log_total_flux'] for row in rows]
    # most are within 10 % (the model card)
    assert np.median(np.abs(error)) < np.log10(1.1)
    stated = load_weights('study-2024').metadata['test_rms_dex']
    assert stated < 0.2
    assert np.mean(np.abs(error) < 2 * stated) > 0.8
