# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The PSF of an image, which differs from place to place."""

import pickle

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import GriddedPSFModel
from scipy.special import erf

from astroflux.cutouts import (
    CutoutReadError,
    GriddedPSF,
    PSFExPSF,
    iter_cutouts,
    psf_from_stars,
)
from astroflux.cutouts.psf_field import MOST_CELLS, as_psf_field

SIGMA = 1.8


def gaussian(sigma, shape=(41, 41), *, center=None, pixel=1.0, sampled=1.0):
    """A Gaussian of a sigma in pixels, in samples of that many pixels, within a pixel."""
    ny, nx = shape
    x0, y0 = ((nx - 1) / 2, (ny - 1) / 2) if center is None else center
    parts = []
    for n, middle in ((ny, y0), (nx, x0)):
        place = (np.arange(n) - middle) * sampled
        edges = (place[:, None] + np.array([-0.5, 0.5]) * pixel) / (np.sqrt(2) * sigma)
        parts.append(np.diff(erf(edges), axis=1)[:, 0] / 2)
    return np.outer(*parts)


def cut(image, shape):
    """The middle of an image, of sum 1."""
    parts = ((n - m) // 2 for n, m in zip(image.shape, shape, strict=True))
    middle = image[tuple(slice(part, part + m) for part, m in zip(parts, shape, strict=True))]
    return middle / middle.sum()


def sigma_at(x, y):
    """That of a PSF that is 10 % wider at one end of 2000 pixels than at the other."""
    return SIGMA * (0.95 + 0.1 * x / 2000 + 0 * y)


def grid(sigma=sigma_at, **drawing):
    positions = np.array([(x, y) for y in (0, 1000, 2000) for x in (0, 500, 1000, 1500, 2000)])
    return np.array([gaussian(sigma(x, y), **drawing) for x, y in positions]), positions


# -- cells ---------------------------------------------------------------------------------------


def test_one_image_in_a_cell():
    psf = GriddedPSF(*grid())
    here, near, beyond = psf.at([0, 255.4, 255.6], [3, 250, 3])
    assert here is near
    assert here is not beyond
    assert psf.at(0, 3)[0] is here
    assert_allclose(here, gaussian(sigma_at(127.5, 127.5), here.shape), atol=5e-4 * here.max())


@pytest.mark.parametrize('shape', [(4000, 4000), (300, 200), (300, 90_000), (12_000, 9000)])
def test_no_more_cells_than_are_remembered(shape):
    psf = GriddedPSF(*grid()).over(shape)
    n_cells = np.prod([-(-n // psf.cell) for n in shape])
    assert n_cells <= MOST_CELLS
    assert psf.cell >= 256
    # as many as may be, of a large image
    assert n_cells > 100 or psf.cell == 256 or min(shape) < psf.cell


def test_places_that_are_none():
    with pytest.raises(ValueError, match='finite'):
        GriddedPSF(*grid()).at(np.nan, 3)


# -- grids ---------------------------------------------------------------------------------------


def test_grids_of_all_kinds_agree():
    images, positions = grid(sampled=0.25, shape=(161, 161))
    nddata = NDData(images, meta={'grid_xypos': positions.tolist(), 'oversampling': 4})
    model = GriddedPSFModel(nddata)
    shuffled = np.random.default_rng(1).permutation(len(images))
    kinds = [
        as_psf_field(model),
        as_psf_field(nddata),
        as_psf_field((images[shuffled], positions[shuffled]), 4),
        GriddedPSF(images, positions, oversampling=(4, 4)),
    ]
    first, *others = (kind.at(1300, 800)[0] for kind in kinds)
    for other in others:
        assert_allclose(other, first, atol=1e-15)
    # photutils' own values about the center of the cell
    x0, y0 = 256 * 5.5 - 0.5, 256 * 3.5 - 0.5
    y, x = np.mgrid[-20:21, -20:21]
    theirs = model.evaluate(x + x0, y + y0, 1.0, x0, y0)
    assert_allclose(first, cut(theirs, first.shape), atol=1e-8)
    assert_allclose(first, gaussian(sigma_at(x0, y0), first.shape), atol=5e-4 * first.max())


def test_beyond_a_grid_and_along_a_line():
    images, positions = grid()
    # a single row of images
    psf = GriddedPSF(images[:5], positions[:5])
    end, beyond = psf.at([2300, 9000], [500, -800])
    assert_allclose(end, cut(images[4], end.shape))
    assert_allclose(beyond, end)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda images, xy: (images, xy[:-1]), 'their positions'),
        (lambda images, xy: (images[0], xy), 'their positions'),
        (lambda images, xy: (images[:-1], xy[:-1]), 'rectangular grid'),
        (lambda images, xy: (images, xy * [1, 0]), 'rectangular grid'),
        (lambda images, xy: (images * np.nan, xy), 'finite'),
        (lambda images, xy: ('abc', xy), 'numbers'),
    ],
)
def test_what_is_no_grid(change, message):
    with pytest.raises(ValueError, match=message):
        GriddedPSF(*change(*grid()))


# -- PSFEx ---------------------------------------------------------------------------------------

STEP = 0.6
DEGREE = 2
EXPONENTS = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2)]


def write_psfex(path, images, header=(), *, names=('X_IMAGE', 'Y_IMAGE'), step=STEP, degree=DEGREE):
    """Write a file as PSFEx does, of a polynomial about pixel 1001 in thousands of pixels."""
    n, ny, nx = images.shape
    column = fits.Column(
        'PSF_MASK', f'{images.size}E', dim=f'({nx}, {ny}, {n})', array=images[None]
    )
    table = fits.BinTableHDU.from_columns([column], name='PSF_DATA')
    cards = {
        'POLNAXIS': len(names),
        'POLNGRP': 1,
        'POLDEG1': degree,
        'PSF_FWHM': 4.2,
        'PSF_SAMP': step,
        'PSFNAXIS': 3,
        'PSFAXIS1': nx,
        'PSFAXIS2': ny,
        'PSFAXIS3': n,
    }
    for number, name in enumerate(names, 1):
        cards |= {
            f'POLGRP{number}': 1,
            f'POLNAME{number}': name,
            f'POLZERO{number}': 1001.0,
            f'POLSCAL{number}': 1000.0,
        }
    table.header.update(cards | dict(header))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


@pytest.fixture(scope='module')
def coefficients():
    """Of a polynomial that fits a Gaussian whose sigma differs by 14 % over 2000 pixels."""
    place = np.random.default_rng(3).uniform(-1, 1, (200, 2))
    drawn = [gaussian(wide(*(1000 + 1000 * p)), (61, 61), sampled=STEP) for p in place]
    terms = np.array([[x**i * y**j for i, j in EXPONENTS] for x, y in place])
    images = np.linalg.lstsq(terms, np.reshape(drawn, (len(place), -1)), rcond=None)[0]
    return images.reshape(-1, 61, 61)


def wide(x, y):
    return SIGMA * (0.95 + 0.07 * x / 2000 + 0.07 * (y / 2000) ** 2)


@pytest.fixture(scope='module')
def psfex(coefficients, tmp_path_factory):
    return write_psfex(tmp_path_factory.mktemp('psfex') / 'image.psf', coefficients)


@pytest.mark.parametrize('place', [(30, 1800), (1000, 1000), (1900, 100)])
def test_file_of_psfex(psfex, place):
    psf = PSFExPSF(psfex)
    image = psf.at(*place)[0]
    center = [256 * (n // 256 + 0.5) - 0.5 for n in place]
    truth = gaussian(wide(*center), image.shape)
    assert image.shape[0] in range(31, 38)
    assert_allclose(image, truth / truth.sum(), atol=2e-3 * truth.max())
    assert 'image.psf, degree 2' in psf.description


def test_psfex_counts_from_one(psfex, coefficients):
    psf, step = PSFExPSF(psfex)._psf_at(1000.0, 1000.0)
    assert_array_equal(psf, np.float32(coefficients[0]))
    assert step == (1 / STEP, 1 / STEP)


def test_psfex_as_galsim_has_it(psfex):
    des = pytest.importorskip('galsim.des')
    galsim = pytest.importorskip('galsim')
    x, y = 256 * 2.5 - 0.5, 256 * 6.5 - 0.5
    theirs = des.DES_PSFEx(str(psfex)).getPSF(galsim.PositionD(x + 1, y + 1))
    theirs = theirs.drawImage(nx=37, ny=37, scale=1.0, method='no_pixel').array
    ours = PSFExPSF(psfex).at(x, y)[0]
    assert_allclose(ours, cut(theirs, ours.shape), atol=3e-3 * ours.max())


@pytest.mark.parametrize(('degree', 'names'), [(0, ()), (1, ('Y_IMAGE',)), (0, ('X_IMAGE',))])
def test_psfex_of_fewer_axes(tmp_path, coefficients, degree, names):
    path = write_psfex(
        tmp_path / 'a.psf', coefficients[[0, 3][: degree + 1]], names=names, degree=degree
    )
    psf, _ = PSFExPSF(path)._psf_at(1500.0, 1200.0)
    expected = coefficients[0] + (0.2 * coefficients[3] if degree else 0)
    assert_allclose(psf, expected, atol=1e-6 * coefficients[0].max())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'names': ('X_IMAGE', 'Y_IMAGE', 'MAG_AUTO')}, 'MAG_AUTO: want the position alone'),
        ({'names': ('X_IMAGE', 'FLUX_RADIUS')}, 'FLUX_RADIUS: want the position alone'),
        ({'names': ('X_IMAGE', 'XWIN_IMAGE')}, 'same axis twice'),
        ({'degree': 3}, 'want 10 images'),
        ({'degree': 10**6}, 'want 0 to 20'),
        ({'step': 1e9}, 'PSF_SAMP'),
        ({'step': True}, 'PSF_SAMP is True'),
        ({'step': 40.0}, 'larger than any PSF'),
        ({'header': {'POLSCAL1': 0.0}}, 'POLSCAL'),
        ({'header': {'POLNAXIS': 'two'}}, "POLNAXIS is 'two'"),
        ({'header': {'EXTNAME': 'OTHER'}}, 'no HDU PSF_DATA'),
    ],
)
def test_refused_files_of_psfex(tmp_path, coefficients, change, message):
    path = write_psfex(tmp_path / 'bad.psf', coefficients, **change)
    with pytest.raises(CutoutReadError, match=r'bad\.psf') as error:
        PSFExPSF(path)
    assert message in str(error.value)


def test_damaged_files_of_psfex(tmp_path, psfex, coefficients):
    content = psfex.read_bytes()
    for name, bytes_of_it in (('a.psf', content[:-5000]), ('b.psf', b'no FITS'), ('c.psf', b'')):
        path = tmp_path / name
        path.write_bytes(bytes_of_it)
        with pytest.raises(CutoutReadError, match=name):
            PSFExPSF(path)
    for name, old, new, message in (
        ('x.psf', b"TTYPE1  = 'PSF_MASK'", b"TTYPE1  = 'PSF_MISS'", 'no column PSF_MASK'),
        ('y.psf', b"'(61, 61, 6)'", b"'(61, 366)'  ", 'want 6 images'),
    ):
        path = tmp_path / name
        path.write_bytes(content.replace(old, new))
        with pytest.raises(CutoutReadError, match=message):
            PSFExPSF(path)
    with pytest.raises(CutoutReadError, match='no such file'):
        PSFExPSF(tmp_path / 'd.psf')
    with pytest.raises(CutoutReadError, match='not finite'):
        PSFExPSF(write_psfex(tmp_path / 'e.psf', coefficients * np.nan))
    with pytest.raises(TypeError, match='is no file'):
        as_psf_field('f.psf')


# -- stars ---------------------------------------------------------------------------------------


def starfield(n_stars=30, n_galaxies=30, *, side=700, sigma=SIGMA, seed=2, highest=np.inf):
    """An image of stars, of S/N 60 to 2000, and wider galaxies; the places of the stars."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    places = rng.uniform(20, side - 20, (n_stars + n_galaxies, 2))
    widths = np.full(len(places), sigma)
    widths[n_stars:] *= rng.uniform(1.2, 2.5, n_galaxies)
    for place, width in zip(places, widths, strict=True):
        x, y = np.round(place).astype(int)
        light = gaussian(width, center=place - (x, y) + 20)
        rows, columns = slice(max(y - 20, 0), y + 21), slice(max(x - 20, 0), x + 21)
        flux = np.exp(rng.uniform(np.log(500), np.log(2e4)))
        part = image[rows, columns]
        part += flux * light[-part.shape[0] :, -part.shape[1] :][: part.shape[0], : part.shape[1]]
    return np.minimum(image, highest) + rng.normal(size=image.shape), places[:n_stars]


@pytest.fixture(scope='module')
def from_stars():
    image, places = starfield()
    return psf_from_stars(image), places


def test_psf_from_stars(from_stars):
    psf, places = from_stars
    truth = gaussian(SIGMA, psf.psf.shape)
    assert_allclose(psf.psf, truth, atol=0.02 * truth.max())
    assert_allclose(psf.fwhm, 2.3548 * SIGMA, rtol=0.02)
    # all are stars, and hardly one is missing of those that are alone
    found = np.column_stack([psf.stars['x'].value, psf.stars['y'].value])
    distance = np.hypot(*(found[:, None] - places).transpose(2, 0, 1)).min(axis=1)
    assert len(found) >= 15
    assert distance.max() < 0.3
    assert psf.at([3, 600], [3, 600])[0] is psf.at(9, 9)[0]
    assert_array_equal(psf.at(3, 3)[0], psf.psf)


def test_stars_in_any_unit(from_stars):
    image, _ = starfield()
    scaled = psf_from_stars(image * 2.0**-110)
    assert_allclose(scaled.psf, from_stars[0].psf, atol=1e-6)
    assert_allclose(scaled.stars['flux'], from_stars[0].stars['flux'] * 2.0**-110, rtol=1e-5)


def test_saturated_stars():
    image, _ = starfield(60, 0, highest=400.0)
    psf = psf_from_stars(image)
    status = np.asarray(psf.sources['status'])
    assert (status == 'saturated').sum() >= 5
    truth = gaussian(SIGMA, psf.psf.shape)
    assert_allclose(psf.psf, truth, atol=0.03 * truth.max())
    told = psf_from_stars(image, saturation=200.0)
    assert (told.sources['status'] == 'saturated').sum() > (status == 'saturated').sum()


def test_stars_that_are_known():
    # too few to stand out by their size
    image, places = starfield(4, 30)
    with pytest.raises(ValueError, match='needs 5 stars or more'):
        psf_from_stars(image)
    psf = psf_from_stars(image, stars=np.vstack([places + 0.7, [(np.nan, 3)]]), min_stars=3)
    truth = gaussian(SIGMA, psf.psf.shape)
    assert_allclose(psf.psf, truth, atol=0.05 * truth.max())
    status = psf.sources['status'].tolist()
    assert status.count('not among those given') >= 15
    with pytest.raises(ValueError, match='no position'):
        psf_from_stars(image, stars=[(np.nan, 3)])


@pytest.mark.parametrize('image', ['galaxies', 'few', 'empty'])
def test_too_few_stars(image):
    if image == 'empty':
        pixels = np.random.default_rng(1).normal(size=(200, 200))
    else:
        pixels, _ = starfield(*{'galaxies': (0, 60), 'few': (3, 0)}[image])
    with pytest.raises(ValueError, match=r'needs 5 stars or more, got \d: of \d+ sources'):
        psf_from_stars(pixels)


def test_masked_stars_are_not_taken(from_stars):
    image, _ = starfield()
    mask = np.zeros(image.shape, bool)
    first = from_stars[0].stars[0]
    x, y = round(first['x'].value), round(first['y'].value)
    mask[y, x] = True
    image[y, x] = np.nan
    sources = psf_from_stars(image, mask=mask).sources
    near = np.hypot(sources['x'].value - x, sources['y'].value - y) < 3
    assert set(sources['status'][near]) <= {'masked'}


def test_picture_of_stars(from_stars, tmp_path):
    from matplotlib.figure import Figure

    psf, _ = from_stars
    figure = psf.plot(tmp_path / 'stars.png')
    assert (tmp_path / 'stars.png').read_bytes().startswith(b'\x89PNG')
    sizes, stars, image = figure.axes
    assert f'stars used: {len(psf.stars)}' in [t.get_text() for t in sizes.get_legend().texts]
    assert f'of {len(psf.stars)}' in stars.get_title()
    assert f'FWHM {psf.fwhm:.2f} pixels' in image.get_title()
    mine = Figure().subplots(1, 3)
    assert psf.plot(mine) is mine[0].figure
    with pytest.raises(ValueError, match='three axes'):
        psf.plot(mine[:2])


# -- all -----------------------------------------------------------------------------------------


def test_other_processes_have_the_same(psfex, from_stars):
    for psf in (GriddedPSF(*grid()), PSFExPSF(psfex), from_stars[0]):
        psf = psf.over((4000, 4000))
        first = psf.at(1300, 800)[0]
        copy = pickle.loads(pickle.dumps(psf))
        assert_array_equal(copy.at(1300, 800)[0], first)
        assert copy.description == psf.description
        assert copy.cell == psf.cell
    # what differs is told apart
    assert GriddedPSF(*grid(shape=(31, 31))).description != GriddedPSF(*grid()).description


def test_in_cutouts_of_an_image(psfex, rng):
    image = rng.normal(size=(600, 600))
    places = [(100, 100), (110, 90), (500, 480)]
    psf = PSFExPSF(psfex)
    for given in (psf, psfex, str(psfex)):
        cutouts = list(iter_cutouts(image, positions=places, psf=given))
        assert cutouts[0].psf is cutouts[1].psf
        for cutout, image_of_it in zip(cutouts, psf.at(*np.transpose(places)), strict=True):
            assert_array_equal(cutout.psf, image_of_it)
    alone = next(iter_cutouts(image, positions=(500, 480), psf=psf))
    assert_array_equal(alone.psf, psf.at(500, 480)[0])
    with pytest.raises(TypeError, match='for one image and positions'):
        next(iter_cutouts([image, image], psf=psf))
