# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A library of noiseless stamps: rendered once, observed without end.

Drawing a galaxy costs tens of milliseconds, observing it (noise, neighbours,
masks) a fraction of one. The library holds each galaxy once, without noise;
`astroflux.training.observe` makes a new observation of it at every step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from astroflux._locks import lock_folder
from astroflux._optional import import_optional
from astroflux._progress import progress_bar
from astroflux._work import call_in_processes, write_whole
from astroflux.networks.outputs import SHAPE
from astroflux.networks.psf_mixture import in_blocks, psf_numbers
from astroflux.simulation.morphology import morphological_profile
from astroflux.simulation.observation import PSF_SIZE
from astroflux.simulation.population import (
    GalaxyPopulation,
    PSFPopulation,
    components_of,
    radius_of_sum,
)
from astroflux.simulation.scene import draw_galaxy, draw_psf, galaxy_profile, psf_profile
from astroflux.simulation.structure import structured_profile

__all__ = ['Library', 'load_library', 'render_library']

GROUPS_PER_CHUNK = 32

# A survey's pixels sample a PSF at least so well. Where it is narrower, these are
# rebinned pixels: the image of the PSF is given in the survey's own.
SAMPLED_FWHM = 1.8

# Rays that find the radii of a galaxy that is no sum of Sersic profiles.
N_PHOTONS = 20_000


class Truth(NamedTuple):
    """
    What is known of a galaxy, or arrays of that.

    Among it what ``SHAPE`` of `astroflux.networks.outputs` lists, by the names of its columns.

    Attributes
    ----------
    half_light_radius : float
        In arcsec, as all lengths; in pixels if it is that of a `Library`.
    concentration : float
        ``5 log10(r80 / r20)`` of the radii that enclose 80 and 20 % of the light
        (Conselice 2003, ApJS 147, 1, section 3.1, but of the total flux).
    bulge_to_total : float
        Of a single component 0 if its Sersic index is that of a disc (0.8 to
        1.2), 1 if it is that of a bulge (3 to 5). NaN where it has no meaning.
    sersic_index : float
        Of a single component.
    n_components : int
        Number of Sersic components; 0 if there is more than that.
    """

    half_light_radius: float
    concentration: float
    bulge_to_total: float = np.nan
    sersic_index: float = np.nan
    n_components: int = 0


@dataclass
class Library:
    """
    Noiseless stamps in groups that share a point-spread function.

    Attributes
    ----------
    stamps : `~numpy.ndarray`
        ``(n, size, size)`` float32, each divided by its peak.
    stars : `~numpy.ndarray`
        ``(n_groups, size, size)`` float32, each divided by its peak.
    group : `~numpy.ndarray`
        ``(n,)`` index of each stamp's group.
    unit_peak, star_peak : `~numpy.ndarray`
        Peak of the stamp of unit total flux.
    unit_norm : `~numpy.ndarray`
        ``sqrt(sum(model**2))`` of the stamp of unit total flux: the total
        flux at a signal-to-noise ratio of one, inverted.
    psf : `~numpy.ndarray`
        ``(n_groups, 9)``: `~astroflux.networks.psf_mixture.psf_numbers`, in pixels.
    truth : `Truth`
        Of arrays ``(n,)``.
    """

    stamps: np.ndarray
    stars: np.ndarray
    group: np.ndarray
    unit_peak: np.ndarray
    star_peak: np.ndarray
    unit_norm: np.ndarray
    psf: np.ndarray
    truth: Truth

    def __len__(self):
        return len(self.stamps)

    @property
    def group_size(self):
        """Number of galaxies that share a point-spread function."""
        return len(self.stamps) // len(self.stars)


def _sersic_truth(row):
    """Return the numbers of a galaxy of one or two components."""
    components = components_of(row)
    inner, half, outer = (radius_of_sum(components, fraction) for fraction in (0.2, 0.5, 0.8))
    index, bulge_to_total = row['sersic_index_1'], row['bulge_to_total']
    if row['n_components'] == 1:
        is_disc, is_bulge = 0.8 <= index <= 1.2, 3 <= index <= 5
        bulge_to_total = 0.0 if is_disc else 1.0 if is_bulge else np.nan
    concentration = 5 * np.log10(outer / inner)
    return Truth(half, concentration, bulge_to_total, index, row['n_components'])


def _structured_truth(face_on, seed):
    """Return the numbers of any other galaxy, from where its photons fall."""
    galsim = import_optional('galsim', extra='simulate')
    photons = face_on.shoot(N_PHOTONS, galsim.BaseDeviate(seed))
    inner, half, outer = np.quantile(np.hypot(photons.x, photons.y), [0.2, 0.5, 0.8])
    return Truth(half, 5 * np.log10(outer / inner))


def _galaxy(row, config, rng):
    """Return a galaxy's profile and truth."""
    if rng.random() >= config.get('structured_fraction', 0.0):
        return galaxy_profile(row), _sersic_truth(row)
    galsim = import_optional('galsim', extra='simulate')
    q, angle = float(row['axis_ratio_1']), float(row['position_angle_1']) * galsim.degrees
    richer = config.get('richer_fraction', 0.0)
    if richer and rng.random() < richer:
        face_on = morphological_profile(row, rng)
        inclined = face_on.shear(q=q, beta=0 * galsim.degrees).rotate(angle)
    else:
        face_on = structured_profile(row, rng)
        inclined = face_on.shear(q=q, beta=angle)
    return inclined, _structured_truth(face_on, int(rng.integers(1, 2**31)))


def _binning(fwhm):
    """Return into how many of the survey's pixels, along an axis, a pixel divides."""
    return max(1, int(np.ceil(SAMPLED_FWHM / fwhm - 1e-9)))


def _render_chunk(path, config, index):
    """Render one chunk and write it under its name only when it is whole."""
    galsim = import_optional('galsim', extra='simulate')
    rng = np.random.default_rng([config['seed'], index])
    group_size = config['group_size']
    shape = (config['stamp_size'], config['stamp_size'])
    pixel_scale = config['pixel_scale']
    parts = config['part']
    shares = np.array([part['share'] for part in parts])

    def offset():
        return tuple(rng.uniform(-0.5, 0.5, 2))

    stamps, stars, psf_images, fwhms, binnings, truths = [], [], [], [], [], []
    for which in rng.choice(len(parts), GROUPS_PER_CHUNK, p=shares / shares.sum()):
        psf_truth = PSFPopulation(**parts[which]['psf']).draw(1, rng)[0]
        psf = psf_profile(psf_truth)
        binning = _binning(psf_truth['psf_fwhm'] / pixel_scale)
        psf_images.append(draw_psf(psf, pixel_scale / binning, size=PSF_SIZE))
        fwhms.append(psf_truth['psf_fwhm'] / pixel_scale)
        binnings.append(binning)
        stars.append(draw_galaxy(galsim.DeltaFunction(), psf, shape, pixel_scale, offset=offset()))
        accuracy = parts[which].get('accuracy')
        population = GalaxyPopulation(**{**config['galaxies'], **parts[which]['galaxies']})
        for row in population.draw(group_size, rng, derived=False):
            profile, truth = _galaxy(row, config, rng)
            centre = (row['x_offset'], row['y_offset'])
            stamps.append(
                draw_galaxy(profile, psf, shape, pixel_scale, offset=centre, accuracy=accuracy)
            )
            truths.append(truth)

    stamps, stars = np.array(stamps), np.array(stars)
    peak, star_peak = stamps.max(axis=(1, 2)), stars.max(axis=(1, 2))
    arrays = {
        'stamps': (stamps / peak[:, None, None]).astype(np.float16),
        'stars': (stars / star_peak[:, None, None]).astype(np.float16),
        'unit_peak': peak,
        'star_peak': star_peak,
        'unit_norm': np.sqrt((stamps.astype(np.float64) ** 2).sum(axis=(1, 2))),
        'psf_image': np.array(psf_images),
        'psf_fwhm': np.array(fwhms),
        'psf_binning': np.array(binnings),
        **dict(zip(Truth._fields, np.array(truths, float).T, strict=True)),
    }
    for output in SHAPE:
        if output.is_ln_of_pixels:
            arrays[output.column] = arrays[output.column] / pixel_scale
    with write_whole(path) as part, part.open('wb') as file:
        np.savez(file, **arrays)


def _told_of_psfs(images, fwhm, binning):
    """Return what a network is told of PSFs, in pixels of which an image's are a part."""
    return in_blocks(psf_numbers(images.astype(float), fwhm * binning), binning)


def _chunk_paths(directory, config):
    per_chunk = GROUPS_PER_CHUNK * config['group_size']
    n_chunks = -(-config['n_galaxies'] // per_chunk)
    return [Path(directory) / f'chunk_{index:04d}.npz' for index in range(n_chunks)]


def render_library(directory, config, *, workers=2, progress=None):
    """
    Render the chunks of a library that are not on disk yet.

    Parameters
    ----------
    directory : path-like
        Folder of the chunks; made if need be.
    config : mapping
        The ``library`` section of a training configuration: ``seed``,
        ``n_galaxies``, ``group_size``, ``stamp_size``, ``pixel_scale``, the
        ``structured_fraction`` of galaxies that are not smooth, the
        ``richer_fraction`` of these that are of `astroflux.simulation.morphology`,
        and the keyword arguments of
        `~astroflux.simulation.GalaxyPopulation` (``galaxies``);
        and in each ``part`` its ``share`` of the groups, the keyword arguments
        of `~astroflux.simulation.PSFPopulation` (``psf``), what else it sets of
        the ``galaxies``, and the parameters of ``galsim.GSParams`` that it draws
        with (``accuracy``).
    workers : int
        Number of processes. The result does not depend on it.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Raises
    ------
    BlockingIOError
        If another process is writing to the folder.
    """
    with lock_folder(directory):
        missing = [(i, p) for i, p in enumerate(_chunk_paths(directory, config)) if not p.exists()]
        arguments = [(path, config, index) for index, path in missing]
        rendered = call_in_processes(_render_chunk, arguments, workers=workers)
        counts = {'total': len(missing), 'unit': ' chunks'}
        for _ in progress_bar(rendered, desc='render', progress=progress, **counts):
            pass


def load_library(directory, config):
    """Read a `Library` into memory; `FileNotFoundError` if it is not rendered as a whole."""
    parts = []
    for path in _chunk_paths(directory, config):
        if not path.exists():
            msg = f'the stamp library is incomplete: {path} is missing; render it first'
            raise FileNotFoundError(msg)
        with np.load(path) as chunk:
            parts.append(dict(chunk))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined['psf'] = _told_of_psfs(
        *(joined.pop(f'psf_{name}') for name in ('image', 'fwhm', 'binning'))
    )
    truth = Truth(**{name: joined.pop(name) for name in Truth._fields})
    # half precision is for the disk: numpy computes with it slowly
    for name in ('stamps', 'stars'):
        joined[name] = torch.from_numpy(joined[name]).float().numpy()
    group = np.repeat(np.arange(len(joined['stars'])), config['group_size'])
    return Library(group=group, truth=truth, **joined)
