# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from astroflux import decode_flags
from astroflux.flags import FATAL_FLAGS, FLAGS, MeasurementFlag, flags_table


def test_registry_is_consistent():
    bits = [flag.bit for flag in FLAGS]
    assert bits == sorted(set(bits))
    assert all(bit.bit_count() == 1 for bit in bits)
    assert len({flag.name for flag in FLAGS}) == len(FLAGS)
    assert all(flag.description.endswith('.') for flag in FLAGS)
    # these are stored in tables, so they must never change
    assert MeasurementFlag.NOISE_ESTIMATED == 1
    assert MeasurementFlag.OUT_OF_RANGE == 256
    assert MeasurementFlag.FAILED == 65536
    assert FATAL_FLAGS == 1024 + 2048 + 4096 + 8192 + 16384 + 32768 + 65536


@pytest.mark.parametrize('flag', FLAGS, ids=lambda flag: flag.name)
def test_every_flag(flag):
    assert decode_flags(flag.bit) == (flag.name,)
    assert MeasurementFlag[flag.name] == flag.bit


@pytest.mark.parametrize('kind', [int, np.int32, np.uint8, np.int64, np.array, MeasurementFlag])
def test_scalar(kind):
    assert decode_flags(kind(5)) == ('NOISE_ESTIMATED', 'MASKED_PIXELS')


def test_none_set():
    assert decode_flags(0) == ()


def test_arrays():
    expected = [(), ('PSF_UNKNOWN', 'FAILED')]
    assert decode_flags([0, 65538]) == expected
    assert decode_flags(np.array([0, 65538], dtype='>i4')) == expected
    assert decode_flags([]) == []


@pytest.mark.parametrize('flags', [1.0, '1', [0.5], None, True])
def test_wrong_type(flags):
    with pytest.raises(TypeError, match='flags must be integers, got an array of dtype'):
        decode_flags(flags)


@pytest.mark.parametrize('flags', [1 << 30, -1, 1 << 40])
def test_unknown_bit(flags):
    with pytest.raises(ValueError, match=f'{flags} is not a combination of known flags'):
        decode_flags(flags)


def test_two_dimensions():
    with pytest.raises(ValueError, match='scalar or 1-d, got an array of 2 dimensions'):
        decode_flags([[1]])


def test_table():
    table = flags_table()
    assert table.colnames == ['bit', 'name', 'description', 'fatal']
    assert list(table['bit']) == [flag.bit for flag in FLAGS]
    assert decode_flags(table['bit']) == [(name,) for name in table['name']]
