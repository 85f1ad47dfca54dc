# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from astroflux.evaluation import read_comparison, write_comparison


@pytest.mark.parametrize('kind', ['comparison', 'truthless'])
def test_round_trip(kind, request, tmp_path):
    comparison = request.getfixturevalue(kind)
    write_comparison(comparison, tmp_path)
    again = read_comparison(tmp_path)
    assert again.title == comparison.title
    assert again.labels == comparison.labels
    assert again.meta == comparison.meta
    assert (again.truth is None) == (comparison.truth is None)
    for name in ('measurements', 'truth', 'speed'):
        table, expected = getattr(again, name), getattr(comparison, name)
        if expected is None:
            continue
        assert table.colnames == expected.colnames
        for column in table.colnames:
            np.testing.assert_array_equal(table[column], expected[column])
    assert again.measurements['flux'].unit == comparison.measurements['flux'].unit
    assert set(again.extremes) == set(comparison.labels)


def test_overwrite(comparison, tmp_path):
    write_comparison(comparison, tmp_path)
    with pytest.raises(FileExistsError, match='overwrite is not set'):
        write_comparison(comparison, tmp_path)
    write_comparison(comparison, tmp_path, overwrite=True)


def test_not_a_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no comparison: comparison\.json is missing'):
        read_comparison(tmp_path)
