# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where to compute."""

import torch

__all__ = ['find_device']


def find_device(name):
    """
    Return a device of torch that is there.

    Parameters
    ----------
    name : str or `torch.device`
        ``'cpu'``, a kind of accelerator as ``'cuda'``, one of several as ``'cuda:1'``, or
        ``'auto'``: ``'cuda'`` if there is one, else ``'cpu'``.

    Returns
    -------
    device : `torch.device`

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    found = {'cpu': 1}
    if accelerator is not None:
        found[accelerator.type] = torch.accelerator.device_count()
    if name == 'auto':
        return torch.device('cuda' if 'cuda' in found else 'cpu')
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or (device.index or 0) >= found.get(device.type, 0):
        names = [f'{kind}:{index}' for kind, n in found.items() for index in range(n)]
        known = ', '.join(repr(text) for text in ('auto', *found, *names[1:]))
        msg = f'device {name!r} is not there; available are {known}'
        raise ValueError(msg)
    return device
