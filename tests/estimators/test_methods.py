# Licensed under a 3-clause BSD style license - see LICENSE.rst
from pathlib import Path

import pytest

import astroflux
from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator


@pytest.mark.parametrize('name', KNOWN_METHODS)
def test_every_method_can_be_made(name):
    method = KNOWN_METHODS[name]
    assert method.name == name
    estimator = make_estimator(name)
    assert type(estimator) is getattr(astroflux, method.estimator)
    assert {**estimator.get_params(), **method.arguments} == estimator.get_params()


def test_labels_are_distinct():
    assert len({method.label for method in KNOWN_METHODS.values()}) == len(KNOWN_METHODS)


def test_every_method_is_described():
    text = (Path(__file__).parents[2] / 'docs' / 'comparators.rst').read_text()
    # the page is of what the network is compared with
    assert [name for name in KNOWN_METHODS if f'``{name}``' not in text] == ['cnn']


def test_further_arguments():
    assert make_estimator('aperture', radius=7.0).radius == 7.0


def test_unknown_method():
    with pytest.raises(ValueError, match="unknown method 'magic': want one of cnn, kron"):
        make_estimator('magic')


def test_available_methods(monkeypatch):
    assert {'cnn', 'kron', 'aperture', 'growth', 'boosting'} <= {*available_methods()}
    monkeypatch.setattr('astroflux.estimators.methods.find_spec', lambda name: True)
    assert 'sersic' not in available_methods()
    assert {'sersic', 'bulge-disc', 'sep'} <= {*available_methods(slow=True)}
    monkeypatch.setattr('astroflux.estimators.methods.find_spec', lambda name: None)
    assert 'sep' not in available_methods(slow=True)
