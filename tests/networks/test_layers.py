# Licensed under a 3-clause BSD style license - see LICENSE.rst
import torch
from torch.nn import functional

from astroflux.networks.layers import highest_of_nine


def test_highest_of_nine():
    pictures = torch.randn(4, 9, 6, generator=torch.manual_seed(0))
    pictures[1, 2, 3] = torch.nan
    pooled = functional.max_pool2d(pictures[:, None], 3, stride=1, padding=1)[:, 0]
    assert torch.equal(highest_of_nine(pictures).nan_to_num(9.0), pooled.nan_to_num(9.0))
