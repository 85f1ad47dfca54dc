# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The script of the README, which goes from an image to a catalogue."""

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable

README = Path(__file__).parents[1] / 'README.rst'


def block(name):
    """The code of a block of the README."""
    found = re.search(rf'   :name: {name}\n\n((?:   .*\n|\n)+)', README.read_text())
    return re.sub('^   ', '', found[1], flags=re.MULTILINE).strip()


def test_from_a_field_to_a_catalogue(tmp_path, monkeypatch):
    pytest.importorskip('galsim')
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(block('field-simulated'), scope)
    script = block('field-measured')
    assert len(script.splitlines()) == 10
    exec(script, {})
    catalog = QTable.read('catalog.ecsv')
    # the columns of photutils, and those of the measurement
    assert {'label', 'area', 'kron_flux', 'flux', 'flux_err', 'mag', 'ra'} <= set(catalog.colnames)
    assert len(catalog) > 15
    truth = scope['truth']
    distance = np.hypot(
        *(np.subtract.outer(catalog[name].value, truth[name].value) for name in ('x', 'y'))
    )
    sure = (catalog['snr'] > 20) & (distance.min(axis=1) < 1)
    assert sure.sum() >= 4
    magnitude = 27 - 2.5 * np.log10(truth['flux'].value[distance.argmin(axis=1)])
    np.testing.assert_allclose(catalog['mag'].value[sure], magnitude[sure], atol=0.15)
