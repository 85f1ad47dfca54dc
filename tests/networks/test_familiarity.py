# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from astroflux.networks.familiarity import Familiarity

# Standard deviations of uncorrelated parts, and how they mix.
MIX = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.9, 0.3, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0], [0, 0, 1, 1]])


def draw(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) @ MIX.T


@pytest.fixture(scope='module')
def familiarity():
    familiarity = Familiarity(4)
    familiarity.fit(draw(20_000, 0))
    return familiarity


def test_one_percent_of_the_familiar_is_above_one(familiarity):
    novelty = familiarity(draw(20_000, 1))
    assert float((novelty > 1).float().mean()) == pytest.approx(0.01, abs=0.003)
    assert torch.all(novelty >= 0)


def test_level():
    familiarity = Familiarity(4)
    familiarity.fit(draw(20_000, 0), level=0.8)
    assert float((familiarity(draw(20_000, 1)) > 1).float().mean()) == pytest.approx(0.2, abs=0.012)


def test_strange_cases_are_far(familiarity):
    assert torch.all(familiarity(draw(1000, 2) + 8) > 1.5)
    usual = float(familiarity(draw(1000, 2)).median())
    assert float(familiarity(draw(1000, 2) + 8).median()) > 4 * usual


def test_what_is_strange_is_the_combination(familiarity):
    """The first two features go together: their values are usual, but not these two at once."""
    along, across = familiarity(torch.tensor([[1.5, 1.5, 0, 0], [1.5, -1.5, 0, 0]]))
    assert along < 0.8
    assert across > 1.5


def test_distance_is_that_of_mahalanobis():
    """For features so small that they are not drawn in."""
    features = 0.02 * draw(5000, 3)
    familiarity = Familiarity(4)
    familiarity.fit(features)
    cases = 0.02 * draw(5, 4) + 0.03
    inverse = np.linalg.inv(np.cov(features.double().numpy().T))
    centre = features.mean(dim=0).numpy()
    distances = [mahalanobis(case, centre, inverse) for case in cases.numpy()]
    limit = np.quantile([mahalanobis(case, centre, inverse) for case in features.numpy()], 0.99)
    np.testing.assert_allclose(familiarity(cases), distances / limit, rtol=2e-3)


def test_nothing_is_strange_before_the_fit():
    assert torch.all(Familiarity(4)(100 * draw(50, 5)) == 0)


def test_extreme_values_are_drawn_in(familiarity):
    far, further = familiarity(torch.tensor([[1e3] * 4, [1e9] * 4]))
    assert 1 < far < further < 10 * far
    # a few of them among many do not change what is familiar
    features = draw(20_000, 0)
    features[:20] = 1e6
    other = Familiarity(4)
    other.fit(features)
    share = float((other(draw(20_000, 1)) > 1).float().mean())
    assert 0.003 < share < 0.02


def test_feature_that_never_changes():
    """It has no scatter to divide by: a small change is no surprise, a large one is."""
    features = draw(5000, 6)
    features[:, 3] = 0.7
    familiarity = Familiarity(4)
    familiarity.fit(features)
    cases = features[:1].expand(2, -1).clone()
    cases[:, 3] += torch.tensor([1e-3, 5.0])
    small, large = familiarity(cases)
    assert torch.isfinite(familiarity(features)).all()
    assert float(small) == pytest.approx(float(familiarity(features[:1])), abs=0.05)
    assert large > 10


def test_order_of_cases_does_not_matter(familiarity):
    cases = draw(10, 7)
    torch.testing.assert_close(familiarity(cases.flip(0)), familiarity(cases).flip(0))
    torch.testing.assert_close(familiarity(cases[3:4]), familiarity(cases)[3:4])


def test_it_is_saved_with_the_network(familiarity):
    other = Familiarity(4)
    other.load_state_dict(familiarity.state_dict())
    cases = draw(10, 8)
    assert torch.equal(other(cases), familiarity(cases))
    # nothing of it is trained by gradients
    assert list(familiarity.parameters()) == []
