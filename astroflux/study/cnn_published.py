# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the report printed of its three networks."""

__all__ = [
    'PUBLISHED_ACTUAL',
    'PUBLISHED_DIFFERENCES',
    'PUBLISHED_FILES',
    'PUBLISHED_LOSSES',
    'PUBLISHED_N_TEST',
    'PUBLISHED_N_TRAIN',
    'PUBLISHED_PREDICTED',
    'published_samples',
]

# Train and test loss after the last epoch.
PUBLISHED_LOSSES = {
    'cnn-1': (0.1844, 0.1781),
    'cnn-2': (0.0815, 0.0489),
    'cnn-3': (0.0561, 0.0388),
}

PUBLISHED_N_TRAIN = 30_000
PUBLISHED_N_TEST = 10_000

# Ten test images, the same for each network: file, log10 of the flux, and what was predicted.
PUBLISHED_FILES = (
    '32643.fits',
    '50987.fits',
    '16675.fits',
    '40761.fits',
    '84531.fits',
    '33715.fits',
    '63863.fits',
    '68747.fits',
    '43169.fits',
    '106470.fits',
)
PUBLISHED_ACTUAL = (
    *(3.712337, 3.833273, 4.444304, 4.070180, 4.436304),
    *(4.440171, 2.466246, 4.356729, 4.331399, 4.299706),
)
PUBLISHED_PREDICTED = {
    'cnn-1': (
        *(4.026822, 4.026822, 4.026822, 4.026822, 4.175019),
        *(4.026822, 4.026822, 4.026822, 4.026822, 4.026822),
    ),
    'cnn-2': (
        *(3.647793, 3.804711, 4.324530, 3.995665, 4.411434),
        *(4.370896, 3.616690, 4.277138, 4.257374, 4.216940),
    ),
    'cnn-3': (
        *(3.669793, 3.779774, 4.302043, 3.925186, 4.334299),
        *(4.302124, 3.419301, 4.185405, 4.191720, 4.161193),
    ),
}

# Absolute, as printed: rounded after they were taken.
PUBLISHED_DIFFERENCES = {
    'cnn-1': (
        *(0.314485, 0.193549, 0.417482, 0.043358, 0.261284),
        *(0.413349, 1.560576, 0.329906, 0.304577, 0.272884),
    ),
    'cnn-2': (
        *(0.064545, 0.028562, 0.119774, 0.074515, 0.024870),
        *(0.069275, 1.150444, 0.079591, 0.074025, 0.082767),
    ),
    'cnn-3': (
        *(0.042544, 0.053499, 0.142262, 0.144995, 0.102005),
        *(0.138047, 0.953055, 0.171323, 0.139678, 0.138513),
    ),
}


def published_samples(name):
    """
    Return the ten samples of a network as the report prints them.

    Parameters
    ----------
    name : str
        ``'cnn-1'``, ``'cnn-2'`` or ``'cnn-3'``.

    Returns
    -------
    samples : list of dict
        ``file_name``, ``predicted``, ``actual`` and ``difference``, which is absolute.
    """
    columns = {
        'file_name': PUBLISHED_FILES,
        'predicted': PUBLISHED_PREDICTED[name],
        'actual': PUBLISHED_ACTUAL,
        'difference': PUBLISHED_DIFFERENCES[name],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
