# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A library of noiseless stamps: rendered once, observed without end.

Drawing a galaxy costs tens of milliseconds, observing it (noise, neighbours,
masks) a fraction of one. The library holds each galaxy once, without noise;
`astroflux.training.observe` makes a new observation of it at every step.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from astroflux.simulation.observation import PSF_SIZE
from astroflux.simulation.population import GalaxyPopulation, PSFPopulation
from astroflux.simulation.scene import draw_galaxy, galaxy_profile, psf_profile

__all__ = ['Library', 'load_library', 'render_library']

GROUPS_PER_CHUNK = 32

# What a chunk holds beside its images, one number per galaxy.
TRUTH_COLUMNS = ('psf_fwhm', 'half_light_radius', 'sersic_index_1', 'bulge_to_total')


@dataclass
class Library:
    """
    Noiseless stamps in groups that share a point-spread function.

    Attributes
    ----------
    stamps : `~numpy.ndarray`
        ``(n, size, size)`` float16, each divided by its peak.
    stars : `~numpy.ndarray`
        ``(n_groups, size, size)`` float16, each divided by its peak.
    group : `~numpy.ndarray`
        ``(n,)`` index of each stamp's group.
    unit_peak, star_peak : `~numpy.ndarray`
        Peak of the stamp of unit total flux.
    unit_norm : `~numpy.ndarray`
        ``sqrt(sum(model**2))`` of the stamp of unit total flux: the total
        flux at a signal-to-noise ratio of one, inverted.
    psf_fwhm, half_light_radius : `~numpy.ndarray`
        In pixels.
    sersic_index, bulge_to_total : `~numpy.ndarray`
        Of the first component; and the second one's share of the flux.
    psf_area : `~numpy.ndarray`
        Noise-equivalent area of the PSF in square pixels, from the central
        part of the star's image, as a PSF image of that size would give it.
    """

    stamps: np.ndarray
    stars: np.ndarray
    group: np.ndarray
    unit_peak: np.ndarray
    star_peak: np.ndarray
    unit_norm: np.ndarray
    psf_fwhm: np.ndarray
    psf_area: np.ndarray
    half_light_radius: np.ndarray
    sersic_index: np.ndarray
    bulge_to_total: np.ndarray

    def __len__(self):
        return len(self.stamps)

    @property
    def group_size(self):
        """Number of galaxies that share a point-spread function."""
        return len(self.stamps) // len(self.stars)


def _render_chunk(path, config, index):
    """Render one chunk and write it under its name only when it is whole."""
    import galsim

    rng = np.random.default_rng([config['seed'], index])
    group_size = config['group_size']
    shape = (config['stamp_size'], config['stamp_size'])
    pixel_scale = config['pixel_scale']
    psfs = PSFPopulation(**config['psf']).draw(GROUPS_PER_CHUNK, rng)
    galaxies = GalaxyPopulation(**config['galaxies']).draw(GROUPS_PER_CHUNK * group_size, rng)

    def offset():
        return tuple(rng.uniform(-0.5, 0.5, 2))

    stamps, stars = [], []
    for number, psf_truth in enumerate(psfs):
        psf = psf_profile(psf_truth)
        stars.append(draw_galaxy(galsim.DeltaFunction(), psf, shape, pixel_scale, offset=offset()))
        for row in galaxies[number * group_size : (number + 1) * group_size]:
            centre = (row['x_offset'], row['y_offset'])
            stamps.append(draw_galaxy(galaxy_profile(row), psf, shape, pixel_scale, offset=centre))
    galaxies['psf_fwhm'] = np.repeat(psfs['psf_fwhm'], group_size)

    stamps, stars = np.array(stamps), np.array(stars)
    peak, star_peak = stamps.max(axis=(1, 2)), stars.max(axis=(1, 2))
    arrays = {
        'stamps': (stamps / peak[:, None, None]).astype(np.float16),
        'stars': (stars / star_peak[:, None, None]).astype(np.float16),
        'unit_peak': peak,
        'star_peak': star_peak,
        'unit_norm': np.sqrt((stamps.astype(np.float64) ** 2).sum(axis=(1, 2))),
        **{name: np.asarray(galaxies[name]) for name in TRUTH_COLUMNS},
    }
    partial = path.with_suffix('.partial.npz')
    np.savez(partial, **arrays)
    os.replace(partial, path)


def _chunk_paths(directory, config):
    per_chunk = GROUPS_PER_CHUNK * config['group_size']
    n_chunks = -(-config['n_galaxies'] // per_chunk)
    return [Path(directory) / f'chunk_{index:04d}.npz' for index in range(n_chunks)]


def _psf_area(stars):
    edge = max(0, (stars.shape[1] - PSF_SIZE) // 2)
    centre = slice(edge, stars.shape[1] - edge)
    psf = stars[:, centre, centre].astype(np.float64)
    return psf.sum(axis=(1, 2)) ** 2 / (psf**2).sum(axis=(1, 2))


def render_library(directory, config, *, workers=2, progress=True):
    """
    Render the chunks of a library that are not on disk yet.

    Parameters
    ----------
    directory : path-like
        Folder of the chunks; made if need be.
    config : mapping
        The ``library`` section of a training configuration: ``seed``,
        ``n_galaxies``, ``group_size``, ``stamp_size``, ``pixel_scale``, and
        the keyword arguments of `~astroflux.simulation.GalaxyPopulation`
        (``galaxies``) and `~astroflux.simulation.PSFPopulation` (``psf``).
    workers : int
        Number of processes. The result does not depend on it.
    progress : bool
        Whether to show a progress bar.
    """
    Path(directory).mkdir(parents=True, exist_ok=True)
    missing = [(i, p) for i, p in enumerate(_chunk_paths(directory, config)) if not p.exists()]
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(_render_chunk, path, config, index) for index, path in missing]
        for future in tqdm(futures, desc='render', unit='chunk', disable=not progress):
            future.result()


def load_library(directory, config):
    """
    Read a rendered library into memory.

    Parameters
    ----------
    directory : path-like
        Folder of the chunks.
    config : mapping
        As for `render_library`.

    Returns
    -------
    library : `Library`

    Raises
    ------
    FileNotFoundError
        If a chunk is missing.
    """
    parts = []
    for path in _chunk_paths(directory, config):
        if not path.exists():
            msg = f'the stamp library is incomplete: {path} is missing; render it first'
            raise FileNotFoundError(msg)
        with np.load(path) as chunk:
            parts.append(dict(chunk))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    pixel_scale = config['pixel_scale']
    return Library(
        stamps=joined['stamps'],
        stars=joined['stars'],
        group=np.repeat(np.arange(len(joined['stars'])), config['group_size']),
        unit_peak=joined['unit_peak'],
        star_peak=joined['star_peak'],
        unit_norm=joined['unit_norm'],
        psf_fwhm=joined['psf_fwhm'] / pixel_scale,
        psf_area=np.repeat(_psf_area(joined['stars']), config['group_size']),
        half_light_radius=joined['half_light_radius'] / pixel_scale,
        sersic_index=joined['sersic_index_1'],
        bulge_to_total=joined['bulge_to_total'],
    )
