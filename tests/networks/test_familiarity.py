# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch

from astroflux.networks.familiarity import Familiarity

# Standard deviations of uncorrelated parts, and how they mix.
MIX = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.9, 0.3, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0], [0, 0, 1, 1]])


def draw(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) @ MIX.T


def draw_snr(n, seed):
    generator = torch.Generator().manual_seed(1000 + seed)
    return 3 * 1000 ** torch.rand(n, generator=generator)


def fitted(features, snr=None, **options):
    familiarity = Familiarity([features.shape[1]])
    familiarity.fit(features, draw_snr(len(features), 0) if snr is None else snr, **options)
    return familiarity


@pytest.fixture(scope='module')
def familiarity():
    return fitted(draw(20_000, 0))


def novelty(familiarity, features, seed=1):
    return familiarity(features, draw_snr(len(features), seed))


def test_one_percent_of_the_familiar_is_above_one(familiarity):
    found = novelty(familiarity, draw(20_000, 1))
    assert float((found > 1).float().mean()) == pytest.approx(0.01, abs=0.004)
    assert torch.all(found >= 0)


def test_level():
    found = novelty(fitted(draw(20_000, 0), level=0.8), draw(20_000, 1))
    assert float((found > 1).float().mean()) == pytest.approx(0.2, abs=0.02)


def test_strange_cases_are_far(familiarity):
    assert torch.all(novelty(familiarity, draw(1000, 2) + 8) > 1.3)
    usual = float(novelty(familiarity, draw(1000, 2)).median())
    assert float(novelty(familiarity, draw(1000, 2) + 8).median()) > 3 * usual


def test_one_strange_feature_is_enough():
    """However many features are usual."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, 60, generator=generator)
    cases = features[:200].clone()
    cases[:, 17] = -9.0
    assert (novelty(fitted(features), cases) > 1).float().mean() > 0.95


def test_what_is_strange_is_the_combination(familiarity):
    """The first two features go together: their values are usual, but not these two at once."""
    cases = torch.tensor([[1.5, 1.5, 0, 0], [1.5, -1.5, 0, 0]])
    along, across = familiarity(cases, torch.tensor([100.0, 100.0]))
    assert along < 0.8
    assert across > 1.3


def test_what_is_usual_depends_on_the_snr():
    """Residuals grow with the S/N: what a bright galaxy leaves is strange in a faint one."""
    snr = draw_snr(40_000, 3)
    familiarity = fitted(draw(40_000, 3) * (1 + snr[:, None] / 100), snr)
    case = torch.full((1, 4), 12.0) * torch.tensor([1.0, 0.9, 0.5, 1.0])
    bright, faint = (float(familiarity(case, torch.tensor([s]))) for s in (2000.0, 10.0))
    assert bright < 0.6
    assert faint > 1.5


def test_ranges_differ_below_and_above():
    """Of a feature that is never negative, a small negative value is strange."""
    features = draw(20_000, 4)
    features[:, 2] = features[:, 2].exp() + 1
    cases = torch.zeros(2, 4)
    cases[:, 2] = torch.tensor([2 + 1.5, 2 - 1.5])
    above, below = fitted(features)(cases, torch.tensor([50.0, 50.0]))
    assert below > 1.5 * above


def test_nothing_is_strange_before_the_fit():
    found = novelty(Familiarity([4]), 100 * draw(50, 5))
    assert torch.all(found < 1e-6)


def test_extreme_values_are_drawn_in(familiarity):
    cases = torch.tensor([[1e3] * 4, [1e9] * 4])
    far, further = familiarity(cases, torch.tensor([30.0, 30.0]))
    assert 1 < far < further < 10 * far
    # a few of them among many do not change what is familiar
    features = draw(20_000, 0)
    features[:20] = 1e6
    share = float((novelty(fitted(features), draw(20_000, 1)) > 1).float().mean())
    assert 0.002 < share < 0.02


def test_feature_that_never_changes():
    """It has no scatter to divide by: a small change is no surprise, a large one is."""
    features = draw(5000, 6)
    features[:, 3] = 0.7
    familiarity = fitted(features)
    cases = features[:1].expand(2, -1).clone()
    cases[:, 3] += torch.tensor([1e-5, 5.0])
    snr = torch.tensor([40.0, 40.0])
    small, large = familiarity(cases, snr)
    assert torch.isfinite(novelty(familiarity, features)).all()
    assert float(small) == pytest.approx(float(familiarity(features[:1], snr[:1])), abs=0.05)
    assert large > 3


@pytest.mark.parametrize('n', [120, 1000])
def test_few_cases(n):
    """Are enough for a judgement, if a coarse one."""
    familiarity = fitted(draw(n, 0))
    assert (novelty(familiarity, draw(1000, 1)) > 1).float().mean() < 0.2
    assert torch.all(novelty(familiarity, draw(100, 2) + 12) > 1)


def test_other_cases_become_familiar(familiarity):
    other = fitted(draw(20_000, 0))
    shifted = draw(4000, 9) + torch.tensor([4.0, 0, 0, 0])
    assert (novelty(other, shifted) > 1).float().mean() > 0.5
    before = novelty(other, draw(100, 1))
    other.extend(shifted, draw_snr(4000, 9))
    assert (novelty(other, shifted, seed=9) > 1).float().mean() == pytest.approx(0.01, abs=0.002)
    assert torch.all(novelty(other, draw(100, 1)) < before)
    # and never is what was familiar less so
    limit = float(other.limit)
    other.extend(0.1 * draw(4000, 9), draw_snr(4000, 9))
    assert float(other.limit) == limit


def test_order_of_cases_does_not_matter(familiarity):
    cases, snr = draw(10, 7), draw_snr(10, 7)
    found = familiarity(cases, snr)
    torch.testing.assert_close(familiarity(cases.flip(0), snr.flip(0)), found.flip(0))
    torch.testing.assert_close(familiarity(cases[3:4], snr[3:4]), found[3:4])


def test_it_is_saved_with_the_network(familiarity):
    other = Familiarity([4])
    other.load_state_dict(familiarity.state_dict())
    cases = draw(10, 8)
    assert torch.equal(novelty(other, cases), novelty(familiarity, cases))
    # nothing of it is trained by gradients, and averages of it can be taken
    assert list(familiarity.parameters()) == []
    assert all(torch.isfinite(buffer).all() for buffer in Familiarity([4]).buffers())


def test_strangest_group_counts():
    """And a group of many features does not hide what is strange in a small one."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, 42, generator=generator)
    familiarity = Familiarity([40, 2])
    familiarity.fit(features, draw_snr(20_000, 0))
    new = torch.randn(20_000, 42, generator=generator)
    share = float((novelty(familiarity, new) > 1).float().mean())
    assert share == pytest.approx(0.01, abs=0.004)
    new[:100, 41] += 8
    new[100:200, 3] += 8
    assert torch.all(novelty(familiarity, new[:200]) > 1)
