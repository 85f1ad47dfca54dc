# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The same galaxies in every form that is accepted: every estimator measures the same.

The pixels, the noise and the PSF are numbers that single precision holds, as are their squares and
inverses, so that all forms but a few hold the same to the last bit.
"""

import gzip
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    Cutout2D,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.table import QTable, Table
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from photutils.segmentation import SegmentationImage, SourceCatalog

from astroflux import read_cutout
from astroflux.cutouts import CutoutFile, iter_cutouts
from astroflux.cutouts._items import unpack
from astroflux.cutouts.writers import write_cutout
from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator
from astroflux.flags import MeasurementFlag as Flag

SIDE, N = 61, 2

# From the sky and back, positions are as precise as a WCS is inverted.
IN_THE_SKY = 1e-5
MIDDLE = (SIDE - 1) / 2


# -- the galaxies ------------------------------------------------------------------------------


@dataclass
class Galaxies:
    """Two galaxies, side by side in an image of 122 x 61 pixels and as stamps of it."""

    data: np.ndarray
    sigma: np.ndarray
    mask: np.ndarray
    psf: np.ndarray
    wcs: WCS
    folder: Path = None
    windows: list = field(
        default_factory=lambda: [np.s_[:, i * SIDE : (i + 1) * SIDE] for i in range(N)]
    )

    def stamps(self, array):
        return [array[window] for window in self.windows]

    def ccds(self, **parts):
        """As `CCDData` with all that is known of them."""
        return [
            CCDData(
                data,
                unit='adu',
                uncertainty=StdDevUncertainty(sigma),
                mask=mask,
                psf=self.psf,
                wcs=self.wcs[window],
                **parts,
            )
            for data, sigma, mask, window in zip(
                self.stamps(self.data),
                self.stamps(self.sigma),
                self.stamps(self.mask),
                self.windows,
                strict=True,
            )
        ]

    def told(self, *names):
        """What keywords say beside arrays."""
        each = {'error': self.stamps(self.sigma), 'mask': self.stamps(self.mask), 'psf': self.psf}
        return {name: each[name] for name in names or each}

    def image(self):
        return CCDData(
            self.data,
            unit='adu',
            uncertainty=StdDevUncertainty(self.sigma),
            mask=self.mask,
            psf=self.psf,
            wcs=self.wcs,
        )

    @property
    def positions(self):
        return np.array([(MIDDLE + i * SIDE, MIDDLE) for i in range(N)])

    @property
    def sky(self):
        return self.wcs.pixel_to_world(*self.positions.T)


def make_galaxies():
    rng = np.random.default_rng(5)
    shape = (SIDE, N * SIDE)
    y, x = np.indices(shape)
    data = np.zeros(shape)
    for i, (flux, scale) in enumerate([(3000, 2.5), (20000, 4.0)]):
        radius = np.hypot(x - i * SIDE - MIDDLE, (y - MIDDLE) / 0.7)
        disc = np.exp(-np.hypot(radius, 1.5) / scale)
        data += flux * disc / disc.sum()
    # powers of two, whose squares and inverses are exact
    sigma = 2.0 ** ((x // 20 + y // 20) % 2 - 1)
    data = np.float64(np.float32(data + rng.normal(0, sigma)))
    mask = rng.random(shape) < 0.01
    py, px = np.indices((25, 25)) - 12
    psf = np.float64(np.float32((1 + (px**2 + py**2) / 9) ** -2.5))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 60.0, 30.0
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    wcs.wcs.set()
    return Galaxies(data, sigma, mask, psf, wcs)


# -- the forms ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """
    How to make cutouts and options of galaxies.

    An answer may differ by ``rtol``, and is in the ``unit``; without noise it is another, and the
    flag ``NOISE_ESTIMATED`` says so.
    """

    make: object
    rtol: float = 0.0
    unit: str = 'adu'
    knows_noise: bool = True


FORMS = {}


def _with_noise(galaxies, kind, power):
    return [
        CCDData(
            ccd.data,
            unit='adu',
            uncertainty=kind(ccd.uncertainty.array**power),
            mask=ccd.mask,
            psf=ccd.psf,
        )
        for ccd in galaxies.ccds()
    ], {}


FORMS |= {
    # of cutouts
    'CCDData': Form(lambda g: (g.ccds(), {})),
    'tuple': Form(lambda g: (tuple(g.ccds()), {})),
    'iterator': Form(lambda g: (iter(g.ccds()), {})),
    'generator': Form(lambda g: ((ccd for ccd in g.ccds()), {})),
    'array of objects': Form(lambda g: (_of_objects(g.ccds()), {})),
    'Cutout': Form(lambda g: (list(iter_cutouts(g.ccds())), {})),
    'variances': Form(lambda g: _with_noise(g, VarianceUncertainty, 2.0)),
    'inverse variances': Form(lambda g: _with_noise(g, InverseVariance, -2.0)),
    'slices of CCDData': Form(
        lambda g: ([g.image()[window] for window in g.windows], g.told('psf'))
    ),
    'another unit': Form(
        lambda g: (
            [
                CCDData(
                    ccd.data * 0.001,
                    unit=1000 * u.adu,
                    uncertainty=StdDevUncertainty(ccd.uncertainty.array, unit='adu'),
                    mask=ccd.mask,
                    psf=ccd.psf,
                )
                for ccd in g.ccds()
            ],
            {},
        ),
        rtol=1e-6,
        unit='1000 adu',
    ),
    'NDData': Form(
        lambda g: (
            [
                NDData(
                    ccd.data, unit='adu', uncertainty=ccd.uncertainty, mask=ccd.mask, psf=ccd.psf
                )
                for ccd in g.ccds()
            ],
            {},
        )
    ),
    'NDData of masked quantities': Form(
        lambda g: (
            [
                NDData(Masked(ccd.data * u.adu, ccd.mask), uncertainty=ccd.uncertainty, psf=ccd.psf)
                for ccd in g.ccds()
            ],
            {},
        )
    ),
    # arrays with all else beside them
    'arrays': Form(lambda g: (g.stamps(g.data), g.told()), unit=''),
    'arrays of float32': Form(lambda g: (g.stamps(g.data.astype('f4')), g.told()), unit=''),
    'arrays of big-endian float32': Form(
        lambda g: (g.stamps(g.data.astype('>f4')), g.told()), unit=''
    ),
    'Fortran arrays': Form(lambda g: (g.stamps(np.asfortranarray(g.data)), g.told()), unit=''),
    'Quantity': Form(lambda g: (g.stamps(g.data * u.adu), g.told())),
    'MaskedArray': Form(
        lambda g: (g.stamps(np.ma.MaskedArray(g.data, g.mask)), g.told('error', 'psf')), unit=''
    ),
    'MaskedNDArray': Form(
        lambda g: (g.stamps(Masked(g.data, g.mask)), g.told('error', 'psf')), unit=''
    ),
    'MaskedQuantity': Form(
        lambda g: (g.stamps(Masked(g.data * u.adu, g.mask)), g.told('error', 'psf'))
    ),
    'NaN for the mask': Form(
        lambda g: (g.stamps(np.where(g.mask, np.nan, g.data) * u.adu), g.told('error', 'psf'))
    ),
    'error as quantities': Form(
        lambda g: (g.stamps(g.data * u.adu), {**g.told(), 'error': g.stamps(g.sigma * u.adu)})
    ),
    'keywords in generators': Form(
        lambda g: (
            iter(g.stamps(g.data * u.adu)),
            {
                'error': iter(g.stamps(g.sigma)),
                'mask': (mask for mask in g.stamps(g.mask)),
                'psf': iter(N * [g.psf]),
                'positions': iter(N * [(MIDDLE, MIDDLE)]),
            },
        )
    ),
    'Cutout2D': Form(
        lambda g: ([Cutout2D(g.data, xy, SIDE) for xy in g.positions], g.told()), unit=''
    ),
    'Cutout2D of a quantity': Form(
        lambda g: ([Cutout2D(g.data * u.adu, xy, SIDE) for xy in g.positions], g.told())
    ),
    'Cutout2D of CCDData': Form(
        lambda g: ([Cutout2D(g.image(), xy, SIDE) for xy in g.positions], g.told()), unit=''
    ),
    # stacks
    'stack': Form(lambda g: (np.array(g.stamps(g.data)), g.told()), unit=''),
    'stack and stacks of keywords': Form(
        lambda g: (
            np.array(g.stamps(g.data)) * u.adu,
            {name: np.array(value) for name, value in g.told('error', 'mask').items()}
            | {'psf': np.array(N * [g.psf])},
        )
    ),
    'stack of MaskedArray': Form(
        lambda g: (
            np.ma.MaskedArray(g.stamps(g.data), g.stamps(g.mask)),
            g.told('error', 'psf'),
        ),
        unit='',
    ),
    'stack of MaskedQuantity': Form(
        lambda g: (
            Masked(np.array(g.stamps(g.data)) * u.adu, np.array(g.stamps(g.mask))),
            g.told('error', 'psf'),
        )
    ),
    'stack of NDData': Form(
        lambda g: (
            NDData(
                np.array(g.stamps(g.data)),
                unit='adu',
                uncertainty=StdDevUncertainty(np.array(g.stamps(g.sigma))),
                mask=np.array(g.stamps(g.mask)),
                psf=g.psf,
            ),
            {},
        )
    ),
    # one image and positions; the table has those in the image
    'image and pairs': Form(lambda g: _image(g, g.positions)),
    'image and a list': Form(lambda g: _image(g, g.positions.tolist())),
    'image and a generator': Form(lambda g: _image(g, (tuple(xy) for xy in g.positions))),
    'image and a table': Form(lambda g: _image(g, _catalog(g))),
    'image and a data frame': Form(lambda g: _image(g, _catalog(g).to_pandas())),
    'image and a structured array': Form(lambda g: _image(g, _catalog(g).as_array())),
    'image and labels': Form(lambda g: _image(g, _catalog(g, more=3), labels=[11, 12])),
    'image and places of SExtractor': Form(
        lambda g: _image(g, Table(g.positions + 1, names=['X_IMAGE', 'Y_IMAGE']))
    ),
    'image and SkyCoord': Form(lambda g: _image(g, g.sky), rtol=IN_THE_SKY),
    'image and a list of SkyCoord': Form(lambda g: _image(g, list(g.sky)), rtol=IN_THE_SKY),
    'image and a table of SkyCoord': Form(
        lambda g: _image(g, QTable({'place': g.sky})), rtol=IN_THE_SKY
    ),
    'image and a table of angles': Form(
        lambda g: _image(g, QTable({'ra': g.sky.ra, 'dec': g.sky.dec})), rtol=IN_THE_SKY
    ),
    'image as a quantity': Form(
        lambda g: (
            g.data * u.adu,
            {**_image(g, g.positions)[1], 'error': g.sigma, 'mask': g.mask, 'psf': g.psf},
        )
    ),
    'image in a file': Form(
        lambda g: (
            _write(g.image(), g.folder / 'image.fits'),
            {'positions': g.positions, 'stamp_size': SIDE},
        )
    ),
    # without noise
    'no noise': Form(
        lambda g: (g.stamps(g.data), g.told('mask', 'psf')), unit='', knows_noise=False
    ),
    'no noise, CCDData': Form(
        lambda g: (
            [CCDData(ccd.data, unit='adu', mask=ccd.mask, psf=ccd.psf) for ccd in g.ccds()],
            {},
        ),
        knows_noise=False,
    ),
    'no noise, stack': Form(
        lambda g: (np.array(g.stamps(g.data)), g.told('mask', 'psf')), unit='', knows_noise=False
    ),
    'no noise, file': Form(lambda g: (_plain_files(g), g.told('mask', 'psf')), knows_noise=False),
}


def _of_objects(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _image(galaxies, positions, **options):
    return galaxies.image(), {'positions': positions, 'stamp_size': SIDE, **options}


def _catalog(galaxies, more=0):
    """A table of the galaxies, and perhaps of others."""
    x, y = galaxies.positions.T
    return QTable(
        {
            'id': [11, 12, *range(100, 100 + more)],
            'x': [*x, *range(more)],
            'y': [*y, *range(more)],
        }
    )


# -- files -------------------------------------------------------------------------------------


def _write(ccd, path):
    write_cutout(ccd, path, overwrite=True)
    return path


def _files(galaxies, make, **header):
    """Write a file for each galaxy, of the HDUs that a function makes, and return their paths."""
    paths = []
    for number, ccd in enumerate(galaxies.ccds()):
        hdus = make(ccd)
        hdus[0].header.update(header)
        paths.append(galaxies.folder / f'{number}.fits')
        fits.HDUList(hdus).writeto(paths[-1], overwrite=True)
    return paths


def _plain_files(galaxies):
    return _files(galaxies, lambda ccd: [fits.PrimaryHDU(ccd.data.astype('f4'))], BUNIT='adu')


def _zipped(paths):
    zipped = []
    for path in paths:
        zipped.append(path.with_suffix('.fits.gz'))
        zipped[-1].write_bytes(gzip.compress(path.read_bytes()))
    return zipped


def _written(galaxies):
    return [
        _write(ccd, galaxies.folder / f'{number}.fits')
        for number, ccd in enumerate(galaxies.ccds())
    ]


def _of_ccddata(galaxies):
    paths = []
    for number, ccd in enumerate(galaxies.ccds()):
        paths.append(galaxies.folder / f'{number}.fits')
        ccd.write(paths[-1], overwrite=True)
    return paths


def _planes(image, noise, mask, *, power=1, as_mask=np.int32, hdu=fits.ImageHDU):
    """Return a function that makes HDUs of these names."""

    def make(ccd):
        arrays = {
            image: ccd.data.astype('f4'),
            noise: (ccd.uncertainty.array**power).astype('f4'),
            mask: ccd.mask.astype(as_mask),
            'PSF': ccd.psf.astype('f4'),
        }
        hdus = [hdu(array, name=name) for name, array in arrays.items()]
        return [fits.PrimaryHDU(), *hdus]

    return make


def _compressed(array, name):
    kind = 'GZIP_2' if array.dtype.kind == 'f' else 'RICE_1'
    return fits.CompImageHDU(array, name=name, compression_type=kind, quantize_level=0)


def _survey_files(galaxies, *, named):
    def make(ccd):
        # a harmless plane everywhere, and the mask in another
        mask = 32 + 256 * ccd.mask.astype(np.int32)
        hdus = [
            fits.ImageHDU(array)
            for array in (
                ccd.data.astype('f4'),
                mask,
                (ccd.uncertainty.array**2).astype('f4'),
            )
        ]
        hdus[1].header['HIERARCH MP_DETECTED'] = 5
        hdus[1].header['HIERARCH MP_NO_DATA'] = 8
        if named:
            for hdu, name in zip(hdus, ('IMAGE', 'MASK', 'VARIANCE'), strict=True):
                hdu.header['EXTTYPE'] = name
        return [fits.PrimaryHDU(), *hdus]

    return _files(galaxies, make)


def _cubes(galaxies):
    def make(ccd):
        other = np.zeros_like(ccd.data)
        image = fits.ImageHDU(np.array([other, ccd.data]).astype('f4'), name='IMAGE')
        image.header['BANDS'] = 'gr'
        ivar = fits.ImageHDU(np.array([other, ccd.uncertainty.array**-2.0]), name='IVAR')
        mask = fits.ImageHDU(np.array([other, ccd.mask]).astype('i2'), name='MASK')
        return [fits.PrimaryHDU(), image, ivar, mask]

    return [CutoutFile(path, plane='r') for path in _files(galaxies, make)]


def _asinh(galaxies):
    """As stacks of Pan-STARRS, of which the pixels are not linear; in double precision."""
    offset, soft = 3.0, 20.0

    def make(ccd):
        scaled = 2.5 / np.log(10) * np.arcsinh((ccd.data - offset) / (2 * soft))
        header = fits.Header({'BOFFSET': offset, 'BSOFTEN': soft})
        return [
            fits.PrimaryHDU(),
            fits.ImageHDU(scaled, header, name='IMAGE'),
            fits.ImageHDU(ccd.uncertainty.array**2, name='VARIANCE'),
            fits.ImageHDU(ccd.mask.astype('u1'), name='MASK'),
        ]

    return _files(galaxies, make)


def _weighted(ccd):
    return [
        fits.PrimaryHDU(ccd.data.astype('f4')),
        fits.ImageHDU(np.where(ccd.mask, 0, ccd.uncertainty.array**-2.0), name='WHT'),
    ]


def _esp(ccd):
    """As products of ESO, whose headers say which noise it is."""
    hdus = _planes('DATA', 'STAT', 'DQ', as_mask=np.int16)(ccd)
    hdus[2].header['HDUCLAS3'] = 'RMSE'
    return hdus


def _jwst(ccd):
    """A DQ plane with a harmless bit wherever there is light."""
    hdus = _planes('SCI', 'ERR', 'DQ', as_mask=np.uint32)(ccd)
    hdus[3].data |= np.where(ccd.data > 3, 4, 0).astype(np.uint32)
    return hdus


def _third_hdu(galaxies):
    def make(ccd):
        hdus = _planes('IMAGE', 'SIGMA', 'MASK')(ccd)
        decoy = fits.ImageHDU(np.zeros_like(ccd.data), name='DATA')
        return [hdus[0], decoy, *hdus[1:]]

    return [CutoutFile(path, hdu='IMAGE', unit='adu') for path in _files(galaxies, make, BUNIT='m')]


FORMS |= {
    'files': Form(lambda g: (_written(g), {})),
    'names of files': Form(lambda g: ([str(path) for path in _written(g)], {})),
    'CutoutFile': Form(lambda g: ([CutoutFile(path) for path in _written(g)], {})),
    'read_cutout': Form(lambda g: ([read_cutout(path) for path in _written(g)], {})),
    'zipped files': Form(lambda g: (_zipped(_written(g)), {})),
    'files of CCDData': Form(lambda g: (_of_ccddata(g), {})),
    'files and keywords': Form(lambda g: (_plain_files(g), g.told())),
    'files of a survey': Form(lambda g: (_survey_files(g, named=True), g.told('psf'))),
    'files of a survey without names': Form(
        lambda g: (_survey_files(g, named=False), g.told('psf'))
    ),
    'SCI, ERR, DQ': Form(lambda g: (_files(g, _planes('SCI', 'ERR', 'DQ', as_mask='i2')), {})),
    'SCI, ERR, DQ of JWST': Form(lambda g: (_files(g, _jwst, TELESCOP='JWST'), {})),
    'DATA, STAT, DQ of ESO': Form(lambda g: (_files(g, _esp), {})),
    'IMAGE, VAR, MASK': Form(lambda g: (_files(g, _planes('IMAGE', 'VAR', 'MASK', power=2.0)), {})),
    'IMAGE, IVAR, BPM': Form(
        lambda g: (_files(g, _planes('IMAGE', 'IVAR', 'BPM', power=-2.0)), {})
    ),
    'compressed planes': Form(
        lambda g: (_files(g, _planes('SCI', 'RMS', 'MASK', hdu=_compressed)), {})
    ),
    'weights': Form(
        lambda g: (
            [CutoutFile(path, weight='ivar') for path in _files(g, _weighted)],
            g.told('psf'),
        )
    ),
    'HDU of choice': Form(lambda g: (_third_hdu(g), {})),
    'cubes of bands': Form(lambda g: (_cubes(g), g.told('psf'))),
    'asinh magnitudes': Form(lambda g: (_asinh(g), g.told('psf')), rtol=1e-5),
}


# -- the tests ---------------------------------------------------------------------------------

# What takes a tenth of a second or more is given one form of each sort. Of an estimator that goes
# by several names one will do.
FEW_FORMS = ('CCDData', 'arrays', 'stack of NDData', 'image and pairs', 'files', 'no noise')
SLOW = ('petrosian', 'sextractor', 'sersic')
METHODS = [n for n in available_methods(slow=True) if n not in ('bulge-disc', 'forest', 'boosting')]
CASES = [
    pytest.param(method, name, id=f'{method}-{name}')
    for method in METHODS
    for name in (FEW_FORMS if method in SLOW else FORMS)
]

# What a row says of the place and name of a cutout, and of its sky if it has a WCS.
OF_PLACE = {'id', 'label', 'x', 'y', 'ra', 'dec'}


@pytest.fixture(scope='module')
def galaxies(tmp_path_factory):
    made = make_galaxies()
    made.folder = tmp_path_factory.mktemp('galaxies')
    return made


@cache
def estimator_of(method):
    return make_estimator(method, **({'radius': 12.0} if method == 'aperture' else {}))


@cache
def expected_of(method, knows_noise):
    """What is measured of arrays, the simplest form."""
    galaxies = make_galaxies()
    told = galaxies.told() if knows_noise else galaxies.told('mask', 'psf')
    return estimator_of(method).measure(galaxies.stamps(galaxies.data), **told)


@pytest.mark.parametrize(('method', 'name'), CASES)
def test_form(method, name, galaxies):
    form = FORMS[name]
    cutouts, options = form.make(galaxies)
    table = estimator_of(method).measure(cutouts, **options)
    expected = expected_of(method, form.knows_noise)
    assert len(table) == N
    assert table['flux'].unit == u.Unit(form.unit)
    factor = u.Unit(form.unit).to(u.adu) if form.unit else 1.0
    lengths = {n for n in expected.colnames if getattr(table[n], 'unit', None) == u.arcsec}
    for column in set(expected.colnames) - OF_PLACE - lengths:
        values, unit = np.asarray(table[column]), expected[column].unit
        if unit == u.dimensionless_unscaled:
            values = values * factor
        np.testing.assert_allclose(
            values, np.asarray(expected[column]), rtol=form.rtol, atol=0, err_msg=column
        )


def test_what_is_not_known_is_flagged(galaxies):
    """Forms that carry less say so, by these flags alone."""
    full, bare = (expected_of('aperture', knows_noise) for knows_noise in (True, False))
    assert set(bare['flags'] ^ full['flags']) == {Flag.NOISE_ESTIMATED}
    without_psf = estimator_of('aperture').measure(galaxies.stamps(galaxies.data))
    assert set(without_psf['flags'] ^ bare['flags']) == {Flag.PSF_UNKNOWN | Flag.MASKED_PIXELS}


def test_every_estimator_is_here():
    known = {KNOWN_METHODS[name].estimator for name in available_methods(slow=True)}
    assert {KNOWN_METHODS[name].estimator for name in METHODS} == known


def test_every_kind_is_here(galaxies):
    """No type may be registered without a form of it."""
    kinds = set()
    for form in FORMS.values():
        cutouts, _ = form.make(galaxies)
        is_many = not isinstance(cutouts, str | Path | CutoutFile | np.ndarray | NDData)
        kinds |= {type(item) for item in (cutouts if is_many else [cutouts])}
    for known in set(unpack.registry) - {object}:
        assert any(issubclass(kind, known) for kind in kinds), known


@pytest.mark.parametrize('method', [n for n in METHODS if n not in SLOW])
def test_catalogs_of_photutils(method, galaxies):
    """A catalog and its segmentation image are the positions that they hold."""
    segments = np.where(galaxies.data > 20, 1 + (np.indices(galaxies.data.shape)[1] >= SIDE), 0)
    segmentation = SegmentationImage(segments)
    catalog = SourceCatalog(galaxies.data, segmentation, mask=galaxies.mask)
    pairs = np.transpose([catalog.x_centroid, catalog.y_centroid])
    tables = [
        estimator_of(method).measure(galaxies.image(), positions=positions, stamp_size=SIDE)
        for positions in (pairs, catalog, catalog.to_table(), segmentation)
    ]
    for table in tables[1:]:
        assert list(table['label']) == [1, 2]
        for name in ('flux', 'flux_err', 'flags', 'x', 'y'):
            np.testing.assert_array_equal(table[name], tables[0][name], err_msg=name)


@pytest.mark.parametrize('make', [fits.open, lambda path: path.open('rb')], ids=['HDUList', 'file'])
def test_open_files_are_refused(make, galaxies):
    """They are collections of something else, and would be a row for each."""
    with (
        make(_written(galaxies)[0]) as opened,
        pytest.raises(TypeError, match=f'from {type(opened).__name__}: want .* path'),
    ):
        estimator_of('aperture').measure(opened)
