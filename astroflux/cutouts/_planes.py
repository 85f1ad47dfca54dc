# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the HDUs beside an image are, and the mask and noise that they hold."""

import re
from dataclasses import dataclass

import numpy as np
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

__all__ = [
    'ContentError',
    'MaskPlaneError',
    'Plane',
    'is_noise',
    'mask_of',
    'native',
    'role_named',
    'role_of',
    'stated_role',
    'std_of',
]

# Planes whose pixel values cannot be used. The planes CR and INTRP are not
# among them: in a coadd they say that one of the exposures was repaired, and
# the values are as good as their neighbours'. Nor are those that mark regions
# (BRIGHT_OBJECT, SUSPECT, EDGE) or sources (DETECTED).
_DEFAULT_PLANES = ('BAD', 'SAT', 'NO_DATA', 'UNMASKEDNAN')

# What an HDU holds, by its name.
_ROLES = {
    **dict.fromkeys(('IMAGE', 'SCI', 'SCIENCE', 'DATA'), 'image'),
    **dict.fromkeys(('MASK', 'MSK', 'BADPIX', 'BPM', 'DQM'), 'mask'),
    'DQ': 'dq',
    **dict.fromkeys(('ERR', 'ERROR', 'ERRORS', 'RMS', 'NOISE', 'SIG', 'SIGMA'), 'std'),
    **dict.fromkeys(('STD', 'STDEV', 'STDDEV', 'UNC', 'UNCERT', 'UNCERTAINTY'), 'std'),
    # STAT is that of ESO's cubes.
    **dict.fromkeys(('VAR', 'VARIANCE', 'STAT'), 'variance'),
    **dict.fromkeys(('IVAR', 'INVVAR', 'INVVARIANCE', 'INVERSE_VARIANCE', 'IVM'), 'ivar'),
    **dict.fromkeys(('WHT', 'WGT', 'WEIGHT', 'WEIGHTS'), 'weight'),
    **dict.fromkeys(('PSF', 'PSFIMAGE'), 'psf'),
}
# The power of the standard deviation that a plane of noise holds.
_POWERS = {'std': 1, 'variance': 2, 'ivar': -2}

# Keywords that say which noise a plane holds: of an UNCERT extension, which CCDData.write makes,
# and of the convention of ESO's data products.
_STATED = {
    'UTYPE': {
        StdDevUncertainty.__name__: 'std',
        VarianceUncertainty.__name__: 'variance',
        InverseVariance.__name__: 'ivar',
    },
    'HDUCLAS3': {'RMSE': 'std', 'MSE': 'variance', 'INVMSE': 'ivar'},
}

# Bits of a DQ plane of JWST and Roman, from the lowest. The first marks what cannot be used; the
# others say why, or what was repaired.
_JWST_PLANES = (
    'DO_NOT_USE SATURATED JUMP_DET DROPOUT OUTLIER PERSISTENCE AD_FLOOR CHARGELOSS '
    'UNRELIABLE_ERROR NON_SCIENCE DEAD HOT WARM LOW_QE RC TELEGRAPH NONLINEAR BAD_REF_PIXEL '
    'NO_FLAT_FIELD NO_GAIN_VALUE NO_LIN_CORR NO_SAT_CHECK UNRELIABLE_BIAS UNRELIABLE_DARK '
    'UNRELIABLE_SLOPE UNRELIABLE_FLAT OPEN ADJ_OPEN FLUX_ESTIMATED MSA_FAILED_OPEN '
    'OTHER_BAD_PIXEL REFERENCE_PIXEL'
)
_JWST = {name: bit for bit, name in enumerate(_JWST_PLANES.split())}
_JWST_TELESCOPES = ('JWST', 'ROMAN')

# Masks have no more bits than that.
_LAST_PLANE = 63


class ContentError(Exception):
    """A file does not hold what is wanted of it: why, in words."""


class MaskPlaneError(ValueError):
    """The caller's mistake, not the file's."""


@dataclass(frozen=True)
class Plane:
    """
    What is beside an image, as it is in the file.

    Attributes
    ----------
    role : str
        What it is.
    name : str
        What a message calls it.
    header : `~astropy.io.fits.Header`
        Its header.
    shape : tuple
        Shape of the whole plane.
    pixels : `~numpy.ndarray`
        Its pixels, or those of the section that was asked for.
    """

    role: str
    name: str
    header: object
    shape: tuple
    pixels: np.ndarray


def role_named(name):
    """Return what goes by a name in whatever case; `None` if nothing does."""
    return _ROLES.get(name.upper())


def role_of(hdu):
    """Return what an HDU says that it is; `None` if it does not."""
    role = role_named(hdu.name)
    if role is None:
        role = _ROLES.get(str(hdu.header.get('EXTTYPE')).strip().upper())
    if role in _POWERS or role == 'weight':
        role = stated_role(hdu.header) or role
    return role


def stated_role(header):
    """Return which noise a header says that a plane holds; `None` if it does not."""
    found = [roles.get(header[key]) for key, roles in _STATED.items() if key in header]
    return next((role for role in reversed(found) if role), None)


def native(array):
    """Return a copy of pixels, in the byte order of the machine rather than the file's."""
    return np.array(array, dtype=array.dtype.newbyteorder('='))


def is_noise(role, weight):
    """Return whether a plane tells the noise; one of weights if the user says so."""
    return role in _POWERS or (role == 'weight' and weight == 'ivar')


def std_of(array, role):
    """Return a noise plane as standard deviations, of float64 if it is of another kind."""
    power = _POWERS.get(role, -2)
    if power == 1:
        return native(array)
    with np.errstate(invalid='ignore', divide='ignore'):
        root = np.sqrt(array, dtype=float)
        return root if power == 2 else np.divide(1, root, out=root)


def mask_of(array, role, header, telescope, asked):
    """
    Return which pixels a mask or DQ plane says cannot be used.

    ``asked`` are names or values of bits; by default those of the convention that it follows.
    `MaskPlaneError` for one that it does not have.
    """
    telescope = str(telescope or '').strip().upper()
    undefined = None
    if array.dtype.kind == 'f':
        # An integer image with undefined pixels comes as floats.
        undefined = ~np.isfinite(array)
        array = np.where(undefined, 0, array)
    bits = _bits(array, role, header, telescope, asked)
    bad = array != 0 if bits is None else _has_bits(array, bits)
    return bad if undefined is None else bad | undefined


def _has_bits(array, bits):
    # Unsigned, as the highest bit is one like the others.
    array = array.astype(np.int64) if array.dtype.kind == 'f' else array
    unsigned = array.dtype.str.replace('i', 'u')
    return array.view(unsigned) & (bits & np.iinfo(unsigned).max) != 0


def _bits(array, role, header, telescope, asked):
    """Return the bits that mark a pixel as unusable; `None` for any."""
    planes = _planes_of(header)
    may_be_jwst = not planes and (not telescope or telescope in _JWST_TELESCOPES)
    if asked is not None:
        return _bits_of(asked, _JWST if may_be_jwst else planes, sorted(planes))
    if planes:
        return _bits_of([name for name in _DEFAULT_PLANES if name in planes], planes)
    # No other telescope's DQ planes are unsigned numbers of 32 bits.
    is_jwst = telescope or array.dtype.name == 'uint32'
    if role == 'dq' and may_be_jwst and is_jwst:
        return _bits_of(['DO_NOT_USE'], _JWST)
    return None


def _planes_of(header):
    """Return the numbers of the planes that a header names."""
    planes = {}
    for key in header:
        if key.startswith('MP_'):
            number = header[key]
            # before 2 to this power is taken
            if type(number) is not int or not 0 <= number <= _LAST_PLANE:
                msg = f'the mask plane {key} has the number {number!r}, want 0 to {_LAST_PLANE}'
                raise ContentError(msg)
            planes[key[3:].upper()] = number
    return planes


def _bits_of(asked, planes, names=()):
    """Return the sum of bits, each a name of a plane or a value."""
    bits, missing = 0, []
    for plane in asked:
        name = str(plane).upper().removeprefix('MP_')
        if name in planes:
            bits |= 1 << planes[name]
        elif re.fullmatch('[1-9][0-9]*', name):
            bits |= int(name)
        else:
            missing.append(name)
    if missing:
        has = f'only {names}' if names else 'as its header names none'
        msg = f'the mask has no plane {missing}, {has}; a bit can be given by its value, too'
        raise MaskPlaneError(msg)
    return bits
