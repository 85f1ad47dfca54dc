# Licensed under a 3-clause BSD style license - see LICENSE.rst
import csv

import numpy as np
import pytest
import torch

from astroflux.networks import load_weights
from astroflux.networks.foveation import CANVAS_SIZE, REACH
from astroflux.training import (
    ObservationSettings,
    draw_indices,
    make_trainer,
    observe,
    read_configuration,
    train,
)
from astroflux.training.library import load_library, render_library
from astroflux.training.loop import OptimiserSettings

pytest.importorskip('galsim')

CONFIGURATION = """
name = "tiny"
description = "For tests."
[library]
seed = 1
n_galaxies = 64
group_size = 2
stamp_size = 51
pixel_scale = 0.168
[library.psf]
fwhm = [0.5, 0.8]
[library.galaxies]
half_light_radius = [0.2, 0.8]
sersic_index = [1.0, 2.0]
[validation]
seed = 2
n_galaxies = 64
snr = [5.0, 3000.0]
blend_fraction = 0.0
[observation]
snr = [20.0, 2000.0]
[network]
channels = [4, 4, 4, 4]
maps = 2
width = 8
[optimiser]
cycles = [[6, 1e-3]]
calibration_steps = 2
batch_size = 8
warmup = 2
"""


@pytest.fixture(scope='module')
def configuration(tmp_path_factory):
    path = tmp_path_factory.mktemp('configuration') / 'tiny.toml'
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture(scope='module')
def library(configuration, tmp_path_factory):
    settings = read_configuration(configuration).library
    folder = tmp_path_factory.mktemp('library')
    render_library(folder, settings, workers=1, progress=False)
    return load_library(folder, settings)


def quiet(**changes):
    """Settings without anything random but the noise."""
    nothing = dict.fromkeys(
        (
            'blend_fraction',
            'defect_fraction',
            'unknown_psf_fraction',
            'unknown_area_fraction',
            'psf_fwhm_error',
            'psf_area_error',
            'sky_residual',
            'small_stamp_fraction',
        ),
        0.0,
    )
    return ObservationSettings(**{**nothing, **changes})


def test_library(library):
    assert library.stamps.shape == (64, 51, 51)
    assert library.stars.shape == (32, 51, 51)
    assert library.group_size == 2
    assert np.all(library.stamps.max(axis=(1, 2)) == 1)
    inside = library.stamps.astype(float).sum(axis=(1, 2)) * library.unit_peak
    assert np.all((inside > 0.85) & (inside < 1.001))
    # a Moffat profile's area, seen through the pixel, in units of its width
    assert np.all(library.psf_area / library.psf_fwhm**2 > 2.5)
    assert np.all(library.psf_area / library.psf_fwhm**2 < 6.0)
    assert 0.5 / 0.168 <= library.psf_fwhm.min() <= library.psf_fwhm.max() <= 0.8 / 0.168
    norm = np.sqrt(
        ((library.stamps.astype(float) * library.unit_peak[:, None, None]) ** 2).sum((1, 2))
    )
    np.testing.assert_allclose(norm, library.unit_norm, rtol=1e-3)


def test_library_goes_on_where_it_stopped(configuration, tmp_path):
    settings = read_configuration(configuration).library
    with pytest.raises(FileNotFoundError, match='the stamp library is incomplete'):
        load_library(tmp_path, settings)
    render_library(tmp_path, settings, workers=1, progress=False)
    (chunk,) = tmp_path.glob('*.npz')
    written = chunk.stat().st_mtime_ns
    render_library(tmp_path, settings, workers=1, progress=False)
    assert chunk.stat().st_mtime_ns == written


def test_observation_has_its_truth(library):
    rng = np.random.default_rng(0)
    seen = observe(library, np.arange(32), quiet(snr=(5000.0, 5001.0)), rng)
    assert seen.image.shape == (32, CANVAS_SIZE, CANVAS_SIZE)
    assert seen.image.dtype == np.float32
    stamp = seen.image[:, REACH - 25 : REACH + 26, REACH - 25 : REACH + 26]
    assert np.sqrt((stamp**2).sum(axis=(1, 2))) == pytest.approx(seen.snr, rel=0.01)
    total = stamp.sum(axis=(1, 2)) / np.exp(seen.ln_flux)
    assert np.all((total > 0.85) & (total < 1.02))
    # valid is the stamp and nothing but the stamp
    assert seen.valid.sum() == 32 * 51 * 51
    assert np.all(seen.image[seen.valid == 0] == 0)
    np.testing.assert_allclose(seen.psf[:, 0], library.psf_fwhm[:32], rtol=1e-6)
    np.testing.assert_allclose(seen.psf[:, 1], library.psf_area[:32], rtol=1e-6)
    assert np.all(seen.floor >= np.float32(0.004))
    assert np.median(seen.floor) < 0.01
    np.testing.assert_allclose(np.exp(seen.ln_radius), library.half_light_radius[:32], rtol=1e-6)


def test_indices_follow_the_sersic_index(library):
    rng = np.random.default_rng(6)
    single = library.bulge_to_total == 0
    for power in (0.0, -3.0):
        settings = quiet(sersic_index_power=power)
        drawn = draw_indices(library, 20_000, settings, rng)
        assert np.mean(single[drawn]) == pytest.approx(single.mean(), abs=0.02)
        index = library.sersic_index[drawn][single[drawn]]
        weight = library.sersic_index[single] ** power
        expected = np.average(library.sersic_index[single], weights=weight)
        assert index.mean() == pytest.approx(expected, rel=0.01)


def test_noise_is_one(library):
    settings = quiet(snr=(1e-6, 1.1e-6))
    seen = observe(library, np.arange(16), settings, np.random.default_rng(1))
    assert seen.image[seen.valid == 1].std() == pytest.approx(1, abs=0.01)
    assert seen.image[seen.valid == 1].mean() == pytest.approx(0, abs=0.02)


def test_neighbours_add_light_and_masks_take_pixels(library):
    indices = np.arange(32)

    def seen(**changes):
        settings = quiet(snr=(300.0, 301.0), **changes)
        return observe(library, indices, settings, np.random.default_rng(2))

    alone = seen()
    blended = seen(blend_fraction=1.0, neighbour_mask_fraction=0.0)
    masked = seen(blend_fraction=1.0, neighbour_mask_fraction=1.0)
    assert np.median(blended.image.sum((1, 2)) - alone.image.sum((1, 2))) > 100
    assert np.all(blended.floor > alone.floor)
    assert blended.valid.sum() == alone.valid.sum()
    assert masked.valid.sum() < 0.99 * alone.valid.sum()
    # the core stays
    assert masked.valid[:, REACH, REACH].mean() > 0.9


def test_defects_unknown_psfs_and_small_stamps(library):
    rng = np.random.default_rng(3)
    settings = quiet(
        defect_fraction=1.0,
        unknown_psf_fraction=0.5,
        unknown_area_fraction=0.5,
        small_stamp_fraction=1.0,
        min_stamp_size=32,
    )
    seen = observe(library, np.arange(64), settings, rng)
    sides = (seen.valid.max(axis=2).sum(axis=1), seen.valid.max(axis=1).sum(axis=1))
    for side in sides:
        assert side.min() >= 20
        assert side.max() <= 51
        assert len(np.unique(side)) > 5
    width_unknown, area_unknown = np.isnan(seen.psf).T
    assert 0.3 < width_unknown.mean() < 0.7
    assert 0.6 < area_unknown.mean() < 0.9
    assert not np.any(width_unknown & ~area_unknown)


def test_observations_are_seeded(library):
    settings = ObservationSettings()
    one, other = (
        observe(library, np.arange(8), settings, np.random.default_rng([5, 1])) for _ in range(2)
    )
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name))


def test_learning_rate():
    cycles = ((1000, 1.0), (200, 0.1))
    settings = OptimiserSettings(cycles=cycles, warmup=100, decay_fraction=0.5)
    assert settings.steps == 1200
    assert settings.rate_at(0) == pytest.approx(0.01)
    assert settings.rate_at(99) == pytest.approx(1.0)
    assert settings.rate_at(500) == pytest.approx(1.0)
    assert settings.rate_at(750) == pytest.approx(0.5)
    assert settings.rate_at(999) == pytest.approx(0.01)
    assert settings.rate_at(1000) == pytest.approx(0.001)
    assert settings.rate_at(1099) == pytest.approx(0.1)
    assert settings.rate_at(1199) == pytest.approx(0.001)


def test_train_writes_weights_that_load(configuration, tmp_path):
    path = train(configuration, tmp_path, workers=1, device='cpu', progress=False)
    weights = load_weights(path)
    assert weights.name == 'tiny'
    assert weights.metadata['training']['optimiser']['cycles'] == [[6, 1e-3]]
    assert weights.metadata['psf_fwhm_range'] == pytest.approx([0.5 / 0.168, 0.8 / 0.168])
    assert weights.metadata['half_light_radius_range'] == pytest.approx([0.2 / 0.168, 0.8 / 0.168])
    with (tmp_path / 'log.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert {row['step'] for row in rows} == {'6', '8'}
    # twice as many observations as validation galaxies, in two rows of the log
    assert sum(int(row['n']) for row in rows) == 2 * 128


def test_train_does_not_overwrite(configuration, tmp_path):
    train(configuration, tmp_path, workers=1, device='cpu', progress=False)
    with pytest.raises(FileExistsError, match='resume it, or train in another folder'):
        train(configuration, tmp_path, workers=1, device='cpu', progress=False)


def test_resumed_training_is_the_same(configuration, tmp_path):
    whole = load_weights(train(configuration, tmp_path / 'whole', device='cpu', progress=False))
    trainer = make_trainer(configuration, tmp_path / 'half', device='cpu', progress=False)
    for _ in range(3):
        trainer.one_step()
    trainer.save_checkpoint()
    resumed = load_weights(
        train(configuration, tmp_path / 'half', resume=True, device='cpu', progress=False)
    )
    torch.testing.assert_close(
        resumed.network.state_dict(), whole.network.state_dict(), rtol=1e-4, atol=1e-6
    )


def test_unknown_configuration():
    with pytest.raises(FileNotFoundError, match="no training configuration 'nonsense'"):
        read_configuration('nonsense')


def test_shipped_configuration_covers_the_promised_population():
    config = read_configuration('foveated-1')
    galaxies, psf = config.library['galaxies'], config.library['psf']
    assert galaxies['half_light_radius'][0] <= 0.15 < 3 <= galaxies['half_light_radius'][1]
    assert galaxies['sersic_index'][0] <= 0.5 < 6 <= galaxies['sersic_index'][1]
    assert psf['fwhm'][0] <= 0.5 < 1 <= psf['fwhm'][1]
    assert config.observation.snr[0] <= 5 < 3000 <= config.observation.snr[1]
    assert config.observation.max_neighbours == 3
    assert config.observation.sky_residual > 0
