# Licensed under a 3-clause BSD style license - see LICENSE.rst
import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from astroflux.estimators._measurement import MAX_BINNING
from astroflux.networks import ProfileNet, load_weights, save_weights
from astroflux.networks.orientation import Orientation
from astroflux.networks.outputs import SHAPE
from astroflux.networks.pyramid import CANVAS_SIZE, REACH
from astroflux.training import ObservationSettings, OptimiserSettings, read_configuration, train
from astroflux.training.library import load_library, render_library
from astroflux.training.loop import Stamps, Trainer
from astroflux.training.observe import draw_indices, observe
from astroflux.training.run import make_trainer

pytest.importorskip('galsim')


def quiet(**changes):
    """Settings without anything random but the noise."""
    nothing = dict.fromkeys(
        (
            'blend_fraction',
            'defect_fraction',
            'unknown_psf_fraction',
            'unknown_shape_fraction',
            'other_psf_fraction',
            'psf_fwhm_error',
            'psf_shape_error',
            'uneven_noise_fraction',
            'photon_noise_fraction',
            'correlated_noise_fraction',
            'sky_residual',
            'small_stamp_fraction',
        ),
        0.0,
    )
    return ObservationSettings(**{**nothing, **changes})


def test_library(library):
    assert library.stamps.shape == (64, 151, 151)
    assert library.stars.shape == (32, 151, 151)
    assert library.group_size == 2
    assert np.all(library.stamps.max(axis=(1, 2)) == 1)
    inside = library.stamps.astype(float).sum(axis=(1, 2)) * library.unit_peak
    assert np.all((inside > 0.9) & (inside < 1.001))
    norm = np.sqrt(
        ((library.stamps.astype(float) * library.unit_peak[:, None, None]) ** 2).sum((1, 2))
    )
    np.testing.assert_allclose(norm, library.unit_norm, rtol=1e-3)
    kinds = set(library.truth.n_components)
    assert kinds == {0, 1, 2}
    for output in SHAPE:
        truth = getattr(library.truth, output.column)
        assert np.isfinite(truth[library.truth.n_components == 2]).all(), output.column
    single = library.truth.n_components == 1
    assert np.all(np.isfinite(library.truth.sersic_index[single]))
    # an exponential disc has 2.7, a de Vaucouleurs profile 5.2 or so, a ring next to nothing
    assert np.all((library.truth.concentration > 0.7) & (library.truth.concentration < 7))
    assert np.isnan(library.truth.bulge_to_total[library.truth.n_components == 0]).all()


def test_psfs_of_a_library(library):
    fwhm, area = library.psf[:, 0], library.psf[:, 1]
    # those of the two parts: in a survey's pixels, and rebinned
    own = fwhm > 2
    assert np.all((fwhm[own] >= 3) & (fwhm[own] <= 5))
    assert np.all((fwhm[~own] >= 1) & (fwhm[~own] <= 1.2))
    assert 0 < np.mean(~own) < 0.5
    # a Moffat profile's area, seen through the pixel, in units of its width
    assert np.all(area / fwhm**2 > 2.3)
    assert np.all(area / fwhm**2 < 6.0)
    assert np.isfinite(library.psf).all()


def test_truth_of_galaxies_that_are_not_smooth(library):
    """Their half-light radius comes from photons: half of the light of a stamp is within it."""
    rows = np.flatnonzero((library.truth.n_components == 0) & (library.truth.half_light_radius < 6))
    y, x = np.mgrid[-75:76, -75:76]
    for row in rows:
        stamp = library.stamps[row].astype(float) * library.unit_peak[row]
        # the PSF moves light outwards, the inclination inwards: a rough check
        radius = 1.3 * np.hypot(library.truth.half_light_radius[row], 2.5)
        assert 0.4 < stamp[np.hypot(x, y) < radius].sum() < 0.95


def test_library_goes_on_where_it_stopped(configuration, tmp_path):
    settings = read_configuration(configuration).training.library
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
    # nearly the whole canvas is seen, and nothing but what is
    assert np.all((seen.weight == 0) | (seen.weight == 1))
    assert np.all(seen.weight.sum(axis=(1, 2)) >= 139**2)
    assert np.all(seen.image[seen.weight == 0] == 0)
    assert np.sqrt((seen.image**2).sum(axis=(1, 2)) - seen.weight.sum(axis=(1, 2))) == (
        pytest.approx(seen.snr, rel=0.01)
    )
    np.testing.assert_allclose(seen.effective_snr, seen.snr, rtol=1e-3)
    total = seen.image.sum(axis=(1, 2)) / np.exp(seen.ln_flux)
    assert np.all((total > 0.85) & (total < 1.05))
    np.testing.assert_allclose(seen.psf, library.psf[library.group[:32]], rtol=1e-6)
    assert np.median(seen.floor) < 0.01
    np.testing.assert_allclose(
        np.exp(seen.shape['ln_radius']), library.truth.half_light_radius[:32], rtol=1e-6
    )


def test_indices_follow_the_sersic_index(library):
    rng = np.random.default_rng(6)
    single = library.truth.n_components == 1
    for power in (0.0, -3.0):
        settings = quiet(sersic_index_power=power)
        drawn = draw_indices(library, 20_000, settings, rng)
        assert np.mean(single[drawn]) == pytest.approx(single.mean(), abs=0.02)
        index = library.truth.sersic_index[drawn][single[drawn]]
        weight = library.truth.sersic_index[single] ** power
        expected = np.average(library.truth.sersic_index[single], weights=weight)
        assert index.mean() == pytest.approx(expected, rel=0.01)


def test_noise_is_one(library):
    settings = quiet(snr=(1e-6, 1.1e-6))
    seen = observe(library, np.arange(16), settings, np.random.default_rng(1))
    assert seen.image[seen.weight == 1].std() == pytest.approx(1, abs=0.01)
    assert seen.image[seen.weight == 1].mean() == pytest.approx(0, abs=0.02)


def test_neighbours_add_light_and_masks_take_pixels(library):
    indices = np.arange(32)

    def seen(**changes):
        settings = quiet(snr=(300.0, 301.0), **changes)
        return observe(library, indices, settings, np.random.default_rng(2))

    alone = seen()
    blended = seen(blend_fraction=1.0, neighbour_mask_fraction=0.0)
    masked = seen(blend_fraction=1.0, neighbour_mask_fraction=1.0)
    assert np.median(blended.image.sum((1, 2)) - alone.image.sum((1, 2))) > 100
    assert np.median(blended.floor) > np.median(alone.floor)
    assert (blended.weight > 0).sum() == pytest.approx((alone.weight > 0).sum(), rel=0.05)
    assert masked.weight.sum() < 0.99 * blended.weight.sum()
    # the core stays
    assert masked.weight[:, REACH, REACH].mean() > 0.9


def test_stamps_are_in_the_standard_orientation(library):
    settings = quiet(snr=(20.0, 2000.0), small_stamp_fraction=0.5, uneven_noise_fraction=0.5)
    seen = observe(library, np.arange(48), settings, np.random.default_rng(3))
    for image in seen.image:
        assert Orientation.of(image, (REACH, REACH)) == Orientation()


def test_stamps_in_another_orientation(library):
    turned = Orientation(flip_y=True, transpose=True)
    seen = observe(library, range(4), quiet(), np.random.default_rng(1))
    other = observe(
        library, range(4), quiet(), np.random.default_rng(1), orient=lambda data, position: turned
    )
    for image, again in zip(seen.image, other.image, strict=True):
        orientation = Orientation.of(again, (REACH, REACH))
        np.testing.assert_array_equal(orientation.apply(again), image)
    assert any(np.any(one != two) for one, two in zip(seen.image, other.image, strict=True))
    # the weights have been turned with the images
    assert np.all(seen.image[seen.weight == 0] == 0)
    pull = seen.image * np.sqrt(seen.weight)
    corner = pull[:, 20:40, 20:40][seen.weight[:, 20:40, 20:40] > 0]
    assert np.median(abs(corner)) == pytest.approx(0.6745, abs=0.05)


def test_network_of_another_kind(library, tmp_path):
    class Other(ProfileNet):
        pass

    stamps = dict.fromkeys(('training', 'validation', 'calibration'), Stamps(library, quiet()))
    trainer = Trainer(
        tmp_path,
        **stamps,
        network_settings={'width': 16},
        optimiser_settings=OptimiserSettings(),
        architecture=Other,
    )
    assert type(trainer.network) is Other
    assert trainer.network.settings['width'] == 16


def test_psf_of_another_field(library):
    settings = quiet(other_psf_fraction=1.0, exact_psf_fraction=0.0)
    own = library.psf[library.group[:64]]
    given = observe(library, np.arange(64), settings, np.random.default_rng(4)).psf
    ratio = given[:, 0] / own[:, 0]
    assert np.all((ratio > 1 / 1.1 - 1e-6) & (ratio < 1.1 + 1e-6))
    changed = abs(given - own).max(axis=1) > 1e-3
    assert changed.mean() > 0.3
    # width, area and shape are those of one PSF
    for row in given:
        assert abs(library.psf.astype(np.float32) - row).max(axis=1).min() == 0


def test_share_of_exact_psfs(library):
    settings = quiet(exact_psf_fraction=0.5, psf_fwhm_error=0.1)
    indices = np.resize(np.arange(64), 256)
    given = observe(library, indices, settings, np.random.default_rng(5)).psf
    exact = np.isclose(given[:, 0], library.psf[library.group[indices], 0], rtol=1e-6)
    assert exact.mean() == pytest.approx(0.5, abs=0.1)


def test_compact_galaxies_are_rarer(library):
    size = library.truth.half_light_radius / library.psf[library.group, 0]
    limit = float(np.median(size))
    settings = quiet(sersic_index_power=0.0, compact_radius=limit)
    drawn = draw_indices(library, 40_000, settings, np.random.default_rng(6))
    number = np.bincount(drawn, minlength=len(library))
    expected = np.minimum(1, size / limit)
    np.testing.assert_allclose(
        number / number.sum(), expected / expected.sum(), atol=5 * np.sqrt(1 / 64 / 40_000)
    )


def test_defects_unknown_psfs_and_small_stamps(library):
    rng = np.random.default_rng(3)
    settings = quiet(
        defect_fraction=1.0,
        unknown_psf_fraction=0.5,
        unknown_shape_fraction=0.5,
        small_stamp_fraction=1.0,
        min_stamp_size=32,
    )
    seen = observe(library, np.arange(64), settings, rng)
    usable = seen.weight > 0
    sides = (usable.max(axis=2).sum(axis=1), usable.max(axis=1).sum(axis=1))
    for side in sides:
        assert side.min() >= 20
        assert side.max() <= CANVAS_SIZE
        assert len(np.unique(side)) > 5
    width_unknown, area_unknown = np.isnan(seen.psf[:, :2]).T
    np.testing.assert_array_equal(area_unknown, np.isnan(seen.psf[:, -1]))
    assert 0.3 < width_unknown.mean() < 0.7
    assert 0.6 < area_unknown.mean() < 0.9
    assert not np.any(width_unknown & ~area_unknown)


def test_noise_that_changes_across_a_stamp(library):
    settings = quiet(snr=(1e-6, 1.1e-6), uneven_noise_fraction=1.0)
    seen = observe(library, np.arange(32), settings, np.random.default_rng(1))
    used = seen.weight > 0
    assert np.ptp(seen.weight[used]) > 0.5
    # the weight tells the variance
    assert (seen.image[used] * np.sqrt(seen.weight[used])).std() == pytest.approx(1, abs=0.01)


def test_photon_noise_is_told_in_half_of_the_stamps(library):
    settings = quiet(snr=(300.0, 301.0), photon_noise_fraction=1.0)
    seen = observe(library, np.arange(64), settings, np.random.default_rng(1))
    told = seen.weight[:, REACH, REACH] < 0.99
    assert 0.3 < told.mean() < 0.7
    assert np.all(seen.effective_snr < seen.snr)


def test_correlated_noise_keeps_its_variance(library):
    settings = quiet(snr=(1e-6, 1.1e-6), correlated_noise_fraction=1.0)
    seen = observe(library, np.arange(32), settings, np.random.default_rng(1))
    used = seen.weight > 0
    assert seen.image[used].std() == pytest.approx(1, abs=0.01)
    next_to_each_other = seen.image[:, 10:-10, 10:-11] * seen.image[:, 10:-10, 11:-10]
    assert next_to_each_other.mean(axis=(1, 2)).max() > 0.2
    assert next_to_each_other.mean() > 0.08
    # sums over many pixels are noisier than the variances tell
    blocks = seen.image[:, 12:132, 12:132].reshape(32, 12, 10, 12, 10).sum(axis=(2, 4)) / 10
    assert 1.2 < blocks.std() < 1.8
    np.testing.assert_array_less(seen.effective_snr, seen.snr)


def test_told_noise_is_that_of_sums(library):
    """The unit is the noise of sums over 7 x 7 pixels, as with `noise_correlation`."""
    settings = quiet(
        snr=(1e-6, 1.1e-6),
        correlated_noise_fraction=1.0,
        told_correlation_fraction=1.0,
        correlation_error=0.0,
    )
    rows = np.arange(64)
    seen = observe(library, rows, settings, np.random.default_rng(12))
    inner = seen.image[:, 4:144, 4:144]
    sums = inner.reshape(64, 20, 7, 20, 7).sum(axis=(2, 4)) / 7
    assert np.sqrt(np.mean(sums**2)) == pytest.approx(1, abs=0.02)
    assert inner.std(axis=(1, 2)).mean() < 0.9
    assert np.all(np.isin(seen.weight, [0, 1]))
    # fluxes are in that unit, too
    bright = replace(settings, snr=(5000.0, 5001.0))
    seen = observe(library, rows, bright, np.random.default_rng(13))
    total = seen.image.sum(axis=(1, 2)) / np.exp(seen.ln_flux)
    assert np.all((total > 0.85) & (total < 1.05))


def test_skies_that_are_off(library):
    settings = quiet(snr=(1e-6, 1.1e-6), sky_offset_fraction=0.5, sky_offset=0.3, sky_residual=0.0)
    level = observe(library, np.arange(64), settings, np.random.default_rng(14)).image.mean(
        axis=(1, 2)
    )
    assert 20 < np.sum(abs(level) < 0.03) < 50
    assert 0.1 < np.std(level[abs(level) > 0.03]) < 0.45


def test_observations_are_seeded(library):
    settings = ObservationSettings()
    one, other = (
        observe(library, np.arange(8), settings, np.random.default_rng([5, 1])).arrays()
        for _ in range(2)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


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


def copy_stamps(source, target):
    """Copy the stamps that a training rendered, so that another need not."""
    ignored = shutil.ignore_patterns('*.pt', '*.csv', '*.safetensors', 'blocks')
    shutil.copytree(source, target, ignore=ignored)


def test_train_writes_weights_that_load(trained):
    weights = load_weights(trained / 'tiny.safetensors')
    # each output has been pulled from the zeros that it began with
    assert weights.network.shape.weight.any(dim=1).tolist() == [True] * len(SHAPE)
    assert weights.name == 'tiny'
    assert weights.metadata['training']['optimiser']['cycles'] == [[6, 1e-3]]
    assert weights.metadata['psf_fwhm_range'] == pytest.approx([3, 5])
    assert weights.metadata['half_light_radius_range'] == pytest.approx([1.2, 4.8])
    with (trained / 'log.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert {row['step'] for row in rows} == {'6', '8'}
    # twice as many observations as validation galaxies, in two rows of the log
    assert sum(int(row['n']) for row in rows) == 2 * 128


def test_train_does_not_overwrite(configuration, trained):
    with pytest.raises(FileExistsError, match='resume it, or train in another folder'):
        train(configuration, trained, workers=1, device='cpu', progress=False)


def test_resumed_training_is_the_same(configuration, trained, tmp_path):
    half = tmp_path / 'half'
    copy_stamps(trained, half)
    trainer = make_trainer(
        read_configuration(configuration), half, device='cpu', workers=1, progress=False
    )
    for batch in trainer.batches(trainer.training, range(3)):
        trainer.one_step(batch)
    trainer.save_checkpoint()
    resumed = train(configuration, half, resume=True, workers=1, device='cpu', progress=False)
    torch.testing.assert_close(
        load_weights(resumed).network.state_dict(),
        load_weights(trained / 'tiny.safetensors').network.state_dict(),
        rtol=1e-4,
        atol=1e-6,
    )


BLOCKS = """
[blocks.library]
seed = 4
n_galaxies = 64
[blocks.observation]
max_binning = 6
[blocks.network]
sees_binning = true
[blocks.optimiser]
cycles = [[3, 1e-3]]
modules = ["binning", "join", "distribution"]
standardise_steps = 0
"""


@pytest.fixture(scope='module')
def with_blocks(configuration, tmp_path_factory):
    path = tmp_path_factory.mktemp('with_blocks') / 'tiny-blocks.toml'
    path.write_text(configuration.read_text() + BLOCKS)
    return path


def test_second_training_is_for_blocks_of_pixels(with_blocks):
    config = read_configuration(with_blocks)
    assert config.training.observation.max_binning == 1
    assert config.blocks.training.observation.max_binning == 6
    assert config.blocks.calibration.observation.max_binning == 6
    # what it does not set is that of the first
    assert config.blocks.training.library == {**config.training.library, 'seed': 4}
    assert config.blocks.optimiser.batch_size == config.optimiser.batch_size == 8
    assert config.blocks.blocks is None


@pytest.fixture(scope='module')
def trained_with_blocks(with_blocks, trained, tmp_path_factory):
    """Folder of a training that is done, the second one too."""
    folder = tmp_path_factory.mktemp('trained_with_blocks') / 'whole'
    # the first training is the same
    shutil.copytree(trained, folder)
    train(with_blocks, folder, resume=True, workers=1, device='cpu', progress=False)
    return folder


def test_train_for_blocks_of_pixels(trained_with_blocks):
    weights = load_weights(trained_with_blocks / 'tiny.safetensors')
    first, blocks = weights.network.state_dict(), weights.blocks.state_dict()
    changed = {name.split('.')[0] for name in first if not torch.equal(first[name], blocks[name])}
    # what is familiar is learned in each calibration
    assert changed == {'join', 'distribution', 'familiarity'}
    assert not torch.equal(blocks['binning.weight'], torch.zeros_like(blocks['binning.weight']))


def test_second_training_of_a_finished_network(with_blocks, trained_with_blocks, tmp_path):
    whole = trained_with_blocks / 'tiny.safetensors'
    copy_stamps(trained_with_blocks / 'blocks', tmp_path / 'again' / 'blocks')
    again = train(
        with_blocks, tmp_path / 'again', network=whole, workers=1, device='cpu', progress=False
    )
    assert not (tmp_path / 'again' / 'training').exists()
    assert load_weights(again).metadata['first_training_of'] == 'tiny'
    for name in ('network', 'blocks'):
        torch.testing.assert_close(
            getattr(load_weights(again), name).state_dict(),
            getattr(load_weights(whole), name).state_dict(),
            rtol=1e-4,
            atol=1e-6,
        )


def test_nothing_to_train(configuration, tmp_path):
    config = read_configuration(configuration)
    path = tmp_path / 'small.safetensors'
    save_weights(path, ProfileNet(**config.network), name='small')
    with pytest.raises(ValueError, match='tiny trains one network, which was given'):
        train(configuration, tmp_path, network=path, progress=False)


def test_sky_of_blocks(library):
    """In units of the noise, the sky of a block is off by as much more as it has pixels."""
    fwhm = library.psf[library.group, 0]
    indices = np.full(400, np.flatnonzero(fwhm < 1.5)[0])
    seen = {
        binning: observe(
            library,
            indices,
            ObservationSettings(
                snr=(1e-3, 1e-3),
                sky_residual=0.5,
                max_binning=binning,
                small_stamp_fraction=0.0,
                blend_fraction=0.0,
                defect_fraction=0.0,
                uneven_noise_fraction=0.0,
                photon_noise_fraction=0.0,
                correlated_noise_fraction=0.0,
            ),
            np.random.default_rng(3),
        )
        for binning in (1, 6)
    }
    assert np.all(seen[1].binning == 1)
    binning = seen[6].binning
    assert binning.min() >= 2
    assert binning.max() <= 6
    assert len(np.unique(binning)) > 1
    # to the nearest pixel, PSFs are as wide as a survey's
    assert np.all(fwhm[indices] * binning < 8 + 0.5 * fwhm[indices])
    for each in seen.values():
        sky = each.image.sum(axis=(1, 2)) / (each.weight > 0).sum(axis=(1, 2))
        assert np.std(sky / each.binning) == pytest.approx(0.5, rel=0.15)


def test_unknown_configuration():
    with pytest.raises(FileNotFoundError, match="no training configuration 'nonsense'"):
        read_configuration('nonsense')


def test_configuration_without_a_section(configuration, tmp_path):
    path = tmp_path / 'short.toml'
    path.write_text(configuration.read_text().replace('[calibration]', '[calibrations]'))
    with pytest.raises(ValueError, match=r"lacks the sections \['calibration'\]"):
        read_configuration(path)


def test_observed_ahead_or_in_between(configuration, trained):
    """A process of its own observes the same batches."""
    config = read_configuration(configuration)
    first = []
    for n_observers in (0, 1):
        trainer = make_trainer(config, trained, workers=1, progress=False)
        trainer.n_observers = n_observers
        first.append(list(trainer.batches(trainer.training, range(2))))
    torch.testing.assert_close(*first, equal_nan=True)


@pytest.mark.parametrize('name', ['profile-4', 'profile-5'])
def test_shipped_configuration_covers_the_promised_population(name):
    config = read_configuration(name)
    assert config.blocks.training.observation.max_binning == MAX_BINNING
    assert config.blocks.network['sees_binning']
    library, observation = config.training.library, config.training.observation
    own, rebinned = library['part']
    index = library['galaxies']['sersic_index']
    assert index[0] <= 0.3 < 6.2 <= index[1]
    assert own['psf']['fwhm'] == [1.8, 8.0]
    radius = own['galaxies']['half_light_radius']
    assert radius[0] <= 0.3 < 18 <= radius[1]
    # blocks of up to twelve of a survey's pixels
    assert rebinned['psf']['fwhm'][0] <= 0.3
    assert library['structured_fraction'] > 0.1
    assert observation.snr[0] <= 3 < 10_000 <= observation.snr[1]
    assert observation.max_neighbours == 3
    assert observation.sky_residual > 0


def test_a_third_of_the_galaxies_and_half_of_the_skies_are_as_real_ones():
    config = read_configuration('profile-5')
    assert config.training.library['structured_fraction'] >= 1 / 3
    assert config.training.library['richer_fraction'] > 0.5
    assert config.training.observation.sky_fraction >= 0.5
    assert config.calibration.observation.sky_fraction >= 0.5
    # no seed of the training before
    seeds = [
        read_configuration(name).training.library['seed'] for name in ('profile-4', 'profile-5')
    ]
    assert seeds[0] != seeds[1]
