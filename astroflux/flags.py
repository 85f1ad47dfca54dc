# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The quality flags of a measurement.

There is one registry, from which the decoder and the table of the documentation are made, so that
they cannot disagree.
"""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

__all__ = ['FATAL_FLAGS', 'FLAGS', 'Flag', 'MeasurementFlag', 'decode_flags', 'flags_table']


@dataclass(frozen=True)
class Flag:
    """
    One quality flag.

    Parameters
    ----------
    bit : int
        The value of the flag, a power of two.

    name : str
        The name, as `decode_flags` returns it.

    description : str
        What the flag says about the measurement, in one sentence.

    fatal : bool
        Whether the row holds no measurement: its flux is NaN.
    """

    bit: int
    name: str
    description: str
    fatal: bool = False


FLAGS = (
    Flag(1, 'NOISE_ESTIMATED', 'The cutout came without noise: it was estimated from the pixels.'),
    Flag(2, 'PSF_UNKNOWN', 'Neither a PSF image nor its FWHM was given.'),
    Flag(4, 'MASKED_PIXELS', 'Some pixels are masked or not finite.'),
    Flag(
        8,
        'MASKED_CORE',
        'A masked pixel lies within one PSF FWHM of the galaxy (3 pixels when the PSF is unknown).',
    ),
    Flag(16, 'STAMP_CROPPED', 'Only the central part of a larger stamp was used.'),
    Flag(
        32,
        'OFF_CENTRE',
        'The position is within 8 pixels of the edge of the stamp, or outside; or the light has '
        'its centroid elsewhere; or no position was given, and in the middle of the stamp are at '
        'best the wings of a source elsewhere.',
    ),
    Flag(64, 'LOW_SNR', 'The column ``snr``, flux over its error, is below 5.'),
    Flag(128, 'NEIGHBOUR', 'Another source affects the answer.'),
    Flag(
        256,
        'OUT_OF_RANGE',
        'The input lies outside what the method was made for: the width of the PSF, the size of '
        'the galaxy, a sky off zero by more than 0.3 of the noise, or a noise that is wrong by '
        'more than a factor of 3.',
    ),
    Flag(512, 'UNFAMILIAR', 'The cutout looks like hardly any that the method was trained on.'),
    Flag(
        1024,
        'BAD_INPUT',
        'Not an image: of a wrong type, not 2-d, smaller than 8 pixels a side, or not numeric.',
        fatal=True,
    ),
    Flag(2048, 'UNREADABLE', 'The file cannot be read.', fatal=True),
    Flag(4096, 'NO_PIXELS', 'Every pixel is masked or not finite.', fatal=True),
    Flag(8192, 'BAD_NOISE', 'No pixel has a positive, finite noise.', fatal=True),
    Flag(
        16384,
        'BAD_PSF',
        'The PSF is not an image, or its sum is not positive and finite.',
        fatal=True,
    ),
    Flag(32768, 'NOT_DETECTED', 'There is no source at the position.', fatal=True),
    Flag(
        65536,
        'FAILED',
        'The method failed or did not converge; the reason is in the metadata of the table.',
        fatal=True,
    ),
    Flag(
        131072,
        'NOISE_ASSUMED_WHITE',
        'The correlation of the noise was to be estimated, but too little blank sky was found: '
        'the noise was taken for white.',
    ),
    Flag(
        262144,
        'AMBIGUOUS',
        'A brighter source is nearer to the position than two FWHM: which one is meant is unclear.',
    ),
    Flag(
        524288,
        'SKY_RESIDUAL',
        'The edge of the stamp is off zero by more than its error, or much brighter on one side: '
        'the sky was not subtracted, too much of it was, or it is not even.',
    ),
    Flag(
        1048576,
        'NOISE_SUSPECT',
        'The pixels at the edge of the stamp scatter otherwise than the stated noise says, see the '
        'column noise_ratio; or the noise of counts of electrons or photons lacks that of the '
        'source.',
    ),
    Flag(
        2097152,
        'TRUNCATED',
        'The galaxy is larger than the stamp: a part of its light lies beyond it.',
    ),
    Flag(
        4194304,
        'ARTEFACT',
        'There is light, or a lack of it, that no galaxy has: the trail of a satellite, a spike of '
        'a star, a cosmic ray, a hot pixel, dead rows or columns.',
    ),
    Flag(
        8388608,
        'PSF_SUSPECT',
        'The PSF image had a pedestal, which was subtracted; or the source at the position is '
        'sharper than the PSF: it is that of finer pixels or of another image, or what is there is '
        'no source of the sky.',
    ),
    Flag(
        16777216,
        'BLENDED',
        'Another source of the image is within one FWHM: they were measured as one, which was '
        'divided among them, and each has the error of the whole.',
    ),
)

MeasurementFlag = IntFlag('MeasurementFlag', {flag.name: flag.bit for flag in FLAGS})
MeasurementFlag.__module__ = __name__
MeasurementFlag.__doc__ = 'The flags of a measurement as integers, combined with ``|``.'

FATAL_FLAGS = sum(flag.bit for flag in FLAGS if flag.fatal)
"""All fatal flags together: ``flags & FATAL_FLAGS`` is nonzero for a row without measurement."""

_KNOWN = sum(flag.bit for flag in FLAGS)


def decode_flags(flags):
    """
    Names of the flags set in a bit mask.

    Parameters
    ----------
    flags : int or array_like of int
        The bit mask of one measurement, or the column ``flags`` of a table of measurements.

    Returns
    -------
    names : tuple of str or list of tuple of str
        The names of the flags that are set, by increasing bit; one tuple for a scalar, a list
        with one tuple per element for a 1-d array. The tuple is empty when no flag is set.

    Raises
    ------
    TypeError
        If ``flags`` is not of an integer type.

    ValueError
        If ``flags`` has more than one dimension, or a bit is set that is not in the registry.

    Examples
    --------
    >>> from astroflux import decode_flags
    >>> decode_flags(5)
    ('NOISE_ESTIMATED', 'MASKED_PIXELS')
    >>> decode_flags([0, 2])
    [(), ('PSF_UNKNOWN',)]
    """
    array = np.asarray(flags)
    if array.size == 0:
        return []
    if array.dtype.kind not in 'iu':
        msg = f'flags must be integers, got an array of dtype {array.dtype}'
        raise TypeError(msg)
    if array.ndim > 1:
        msg = f'flags must be a scalar or 1-d, got an array of {array.ndim} dimensions'
        raise ValueError(msg)
    if array.ndim == 0:
        return _decode_one(int(array))
    return [_decode_one(value) for value in array.tolist()]


def _decode_one(value):
    if value < 0 or value & ~_KNOWN:
        msg = f'{value} is not a combination of known flags (the highest is {FLAGS[-1].bit})'
        raise ValueError(msg)
    return tuple(flag.name for flag in FLAGS if value & flag.bit)


def flags_table():
    """
    All flags as a table, for the documentation.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns ``bit``, ``name``, ``description`` and ``fatal``, one row per flag.
    """
    # imported here so that decoding needs numpy alone
    from astropy.table import Table

    return Table(
        rows=[(flag.bit, flag.name, flag.description, flag.fatal) for flag in FLAGS],
        names=('bit', 'name', 'description', 'fatal'),
    )
