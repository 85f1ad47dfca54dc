# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What it takes to read a section of an image, and to find the image of each source of a survey.

    python benchmarks/survey_input.py --write

writes images with mask and variance, of 4000 pixels a side, and times their reading whole and by
sections of 500 pixels a side; then the assignment of a million sources to a thousand such images,
which overlap and of which there are the headers alone.
"""

import gzip
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from report import command_line, put_out, rst_table

from astroflux.evaluation._numbers import grouped_text
from astroflux.survey import SurveyImage, assign, find_images

SIDE = 4000
SECTION = (slice(1000, 1500), slice(2000, 2500))
SCALE = 0.2 / 3600
# A square of tiles, which overlap by a tenth of their side.
ROWS, COLUMNS = 25, 40
STEP = 0.9 * SIDE * SCALE
SEED = 90133


def files_of(folder, rng):
    """Write one image in several ways; return what each is called, and its path."""
    noise = rng.normal(size=(SIDE, SIDE)).astype('f4')
    planes = {'IMAGE': noise, 'MASK': np.zeros(noise.shape, 'i4'), 'VARIANCE': np.ones_like(noise)}
    kinds = {
        'not compressed': ('plain.fits', fits.ImageHDU, {}),
        '``.fits.fz``, a tile for each row': ('rows.fits.fz', fits.CompImageHDU, {}),
        '``.fits.fz``, tiles of 250 pixels a side': (
            *('tiles.fits.fz', fits.CompImageHDU),
            {'tile_shape': (250, 250)},
        ),
    }
    paths = {}
    for title, (name, hdu, options) in kinds.items():
        paths[title] = folder / name
        hdus = [hdu(pixels, name=key, **options) for key, pixels in planes.items()]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(paths[title])
    plain = folder / 'plain.fits'
    paths['``.fits.gz``'] = packed = folder / 'packed.fits.gz'
    with plain.open('rb') as content, gzip.open(packed, 'wb', compresslevel=1) as file:
        shutil.copyfileobj(content, file)
    return paths


def write_headers(folder):
    """Write images of nothing, which take no room on the disk."""
    for row in range(ROWS):
        for column in range(COLUMNS):
            wcs = WCS(naxis=2)
            wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
            # about RA 0
            wcs.wcs.crval = [(column - COLUMNS / 2) * STEP % 360, (row - ROWS / 2) * STEP]
            wcs.wcs.crpix = [SIDE / 2 + 0.5] * 2
            wcs.wcs.cdelt = [-SCALE, SCALE]
            header = fits.PrimaryHDU(header=wcs.to_header()).header
            header.update(BITPIX=-32, NAXIS=2)
            header.set('NAXIS1', SIDE, after='NAXIS')
            header.set('NAXIS2', SIDE, after='NAXIS1')
            content = header.tostring().encode()
            with (folder / f'{row:02d}-{column:02d}.fits').open('wb') as file:
                file.write(content)
                file.truncate(len(content) + -(-4 * SIDE**2 // 2880) * 2880)


def sources(n, rng):
    """Return a catalogue of sources on the images, some of which are on several."""
    sides = np.array([[COLUMNS], [ROWS]]) * STEP / 2
    ra, dec = rng.uniform(-sides, sides, (2, n)) - STEP / 2
    return Table({'object_id': np.arange(n) + 2**60, 'ra': ra % 360, 'dec': dec})


def seconds(work, repeats):
    """Return the shortest time that work takes."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main():
    """Run from the command line."""
    counts = {'n': (10**6, 'sources'), 'repeats': (3, 'the best time of these counts')}
    arguments = command_line(__doc__, **counts).parse_args()
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for title, path in files_of(Path(folder), rng).items():
            image = SurveyImage(path)
            part = seconds(lambda image=image: image.read(SECTION), arguments.repeats)
            whole = seconds(image.read, arguments.repeats)
            rows.append([title, grouped_text(part), grouped_text(whole)])
    read = rst_table(['file', 'seconds for a section', 'seconds for the whole'], rows)
    with tempfile.TemporaryDirectory() as folder:
        write_headers(Path(folder))
        catalogue = sources(arguments.n, rng)
        began = time.perf_counter()
        found = assign(catalogue, find_images(folder))
        took = time.perf_counter() - began
    assigned = (
        f'To assign {arguments.n - len(found.off):,} sources to {ROWS * COLUMNS:,} images, whose '
        f'headers were read for it, took {grouped_text(took)} seconds.'
    )
    put_out(f'{read}\n{assigned}\n', 'survey-input', write=arguments.write)


if __name__ == '__main__':
    main()
