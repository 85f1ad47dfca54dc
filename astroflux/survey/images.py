# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The images of a survey: where they are, and how each is read."""

import glob
import os
import re
from collections import Counter
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from astroflux._forks import cached_property
from astroflux.cutouts import CutoutFile, CutoutReadError
from astroflux.cutouts._layout import window_of
from astroflux.cutouts._own_files import kind_and_path, read_mask, read_noise, stem_of
from astroflux.cutouts.readers import geometry_of

__all__ = ['SurveyImage', 'find_images']

# What a folder's images end in.
_ENDS = tuple(
    f'.{suffix}{packed}' for suffix in ('fits', 'fit', 'fts') for packed in ('', '.fz', '.gz')
)

_NO_NAME = re.compile(r'[/\\\0]')


@dataclass(frozen=True)
class SurveyImage(CutoutFile):
    """
    An image on disk and how to read it, whole or by section.

    Nothing is opened until it is asked for. It can be pickled, and is a
    `~astroflux.cutouts.CutoutFile`, so that it is measured wherever a path is.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The FITS file, compressed or not. What is found in it: `~astroflux.read_cutout`.
    noise, mask : str or `~pathlib.Path`, optional
        Files of their own. That of the noise goes before what is beside the image; the mask, or
        a map of weights, is added to it. What such a file holds is told by its header, as in
        `~astroflux.read_cutout`, or by the last word of its name, as in ``a_rms.fits`` or
        ``a.weight.fits``; otherwise write it in front: ``'variance:a_2.fits'``. The words are those
        that name an HDU.
    psf : object, optional
        What the engine takes for the PSF of this image. It is not looked at here.
    name : str, optional
        How files and tables call the image; the name of the file without its suffixes by default.
    hdu, plane, unit, mask_planes, weight, max_pixels : object, optional
        As in `~astroflux.read_cutout`.

    See Also
    --------
    find_images : Many of them, from folders and patterns, each with a name of its own.

    Examples
    --------
    >>> from astroflux.survey import SurveyImage
    >>> image = SurveyImage('coadds/9813-4,4.fits.fz', noise='variance:coadds/9813-4,4-v.fits')
    >>> image.name
    '9813-4,4'
    """

    _: KW_ONLY
    noise: str | Path | None = None
    mask: str | Path | None = None
    psf: object = field(default=None, compare=False)
    name: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.name is None:
            object.__setattr__(self, 'name', stem_of(self.path))
        if not self.name or _NO_NAME.search(self.name):
            msg = f'name must be one that a file can have, got {self.name!r}'
            raise ValueError(msg)

    def __getstate__(self):
        # not the WCS, which is read again
        return {key: value for key, value in vars(self).items() if key != '_geometry'}

    @cached_property
    def _geometry(self):
        return geometry_of(self)

    @property
    def shape(self):
        """Rows and columns of the image, from its header; `CutoutReadError` if it has none."""
        return self._geometry[0]

    @property
    def wcs(self):
        """Its WCS, from its header; `None` if it has none, `CutoutReadError` if it is no use."""
        _, wcs, fault = self._geometry
        if fault is not None:
            msg = f'the WCS of {str(self)!r} cannot be used: {fault}'
            raise CutoutReadError(msg)
        return wcs

    def read(self, section=None):
        """
        Read the image with what is beside it, and from files of their own.

        Parameters
        ----------
        section : pair of slice, optional
            Rows and columns to read. Of files that are not compressed as a whole (``.gz``), no
            other rows or tiles are read.

        Returns
        -------
        image : `~astropy.nddata.CCDData`
            As of `~astroflux.read_cutout`; of the section, with its WCS.

        Raises
        ------
        CutoutReadError
            If one of the files is missing, damaged or of another shape, or nothing says which
            noise it holds.
        ValueError
            If the section is none of the image.
        """
        own = []
        if self.noise is not None or self.mask is not None:
            # before another file has a say
            window_of(section, self.shape)
        if self.noise is not None:
            own.append(read_noise(self, self.noise, section))
        if self.mask is not None:
            own.append(read_mask(self, self.mask, section))
        return self._read(section, own)


def find_images(paths, *, noise=None, mask=None, psf=None, **how):
    """
    Return the images of a survey, each with a name of its own, in the order of their names.

    Neither the images nor their names depend on the order of the paths.

    Parameters
    ----------
    paths : path-like, `SurveyImage`, or iterable of them
        Files, folders, and patterns as of `glob`, where ``**`` stands for any folders. Of a folder,
        the FITS files in it, but not those of the folders in it. A `SurveyImage` stays as it is,
        but for its name.
    noise, mask, psf : str or object, optional
        As of a `SurveyImage`, for all paths. A text with ``{stem}`` stands for a file of each
        image, from the folder of the image on: ``'{stem}_rms.fits'``, or ``'../var/{stem}.fits'``
        with what it holds in front, ``'variance:../var/{stem}.fits'``. In the stem, which is the
        image's name without its suffixes, a text can be exchanged:
        ``'{stem:-image->-invvar-}.fits.fz'``. A file that is the noise or the mask of another is no
        image, nor is one whose name does not have that text.
    **how : object
        Other arguments of `SurveyImage`.

    Returns
    -------
    images : list of `SurveyImage`
        The name of each is that of its file; the names of its folders are joined to it as far as
        others have the same.

    Raises
    ------
    FileNotFoundError
        If a folder or a pattern has no image. That a file is missing is told when it is read.
    ValueError
        If two images are of the same file, and differ otherwise.
    """
    if isinstance(paths, str | os.PathLike | SurveyImage):
        paths = [paths]
    given = list(paths)
    images = [each for each in given if isinstance(each, SurveyImage)]
    patterns = {'noise': noise, 'mask': mask, 'psf': psf}
    found = sorted(
        {path for each in given if not isinstance(each, SurveyImage) for path in _files_of(each)}
    )
    others = [{key: _filled(text, path) for key, text in patterns.items()} for path in found]
    beside = {
        os.path.abspath(kind_and_path(each[key])[1])
        for each in others
        for key in ('noise', 'mask')
        if each[key] is not None
    }
    images += [
        SurveyImage(path, **each, **how)
        for path, each in zip(found, others, strict=True)
        if os.path.abspath(path) not in beside
    ]
    if not images:
        msg = f'there are no images: paths has {found or given}, of which none is an image'
        raise ValueError(msg)
    return _with_names(images)


def _files_of(path):
    """Return the files of a path, a folder or a pattern."""
    path = os.path.normpath(path)
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(_ENDS))
        found = [os.path.join(path, name) for name in names if not name.startswith('.')]
    elif os.path.exists(path) or not glob.has_magic(path):
        # one that is missing is a failure of its own
        return [path]
    else:
        found = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
    if not found:
        msg = f'there is no FITS file in the folder or of the pattern {path!r}'
        raise FileNotFoundError(msg)
    return found


class _Stem(str):
    """The stem of a file's name, which `format` can exchange a text of."""

    def __format__(self, spec):
        if not spec:
            return str(self)
        old, arrow, new = spec.partition('>')
        if not old or not arrow:
            msg = f"want '{{stem}}' or '{{stem:OLD>NEW}}', got '{{stem:{spec}}}'"
            raise ValueError(msg)
        return self.replace(old, new)


def _filled(text, path):
    """Return the file of an image that a pattern stands for; what is no pattern as it is."""
    if not isinstance(text, str) or '{stem' not in text:
        return text
    kind, pattern = kind_and_path(text)
    try:
        name = pattern.format(stem=_Stem(stem_of(path)))
    except (KeyError, IndexError, ValueError) as exc:
        msg = f"cannot make a file's name of the pattern {text!r}: {exc}"
        raise ValueError(msg) from None
    name = os.path.normpath(os.path.join(os.path.dirname(path), name))
    return name if kind is None else f'{kind}:{name}'


def _with_names(images):
    """Return images with names that differ, whatever the case of letters, in their order."""
    unique = list(dict.fromkeys(images))
    parts = [_parts_of(image) for image in unique]
    for i in _repeated(map('/'.join, parts)):
        # of one folder, they have other suffixes
        parts[i][-1] = Path(unique[i].path).name
    n_parts = [1] * len(unique)
    while same := _repeated(names := _joined(parts, n_parts)):
        longer = [i for i in same if n_parts[i] < len(parts[i])]
        if not longer:
            msg = (
                f'{str(unique[same[0]])!r} is given twice, with other options or another path to '
                'it, or there is one whose name has other capitals'
            )
            raise ValueError(msg)
        for i in longer:
            n_parts[i] += 1
    order = sorted(range(len(names)), key=names.__getitem__)
    return [replace(unique[i], name=names[i]) for i in order]


def _parts_of(image):
    """Return what an image may be called by: its folders, which part of the file, its name."""
    folders = Path(os.path.abspath(image.path)).parent.parts[1:]
    part = [_NO_NAME.sub('_', str(p)) for p in (image.hdu, image.plane) if p is not None]
    return [*folders, *part, image.name]


def _joined(parts, n_parts):
    return ['-'.join(each[-n:]) for each, n in zip(parts, n_parts, strict=True)]


def _repeated(names):
    """Return the numbers of those that are not the only ones of their name."""
    names = [name.casefold() for name in names]
    count = Counter(names)
    return [i for i, name in enumerate(names) if count[name] > 1]
