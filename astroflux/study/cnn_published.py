# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the report printed of its three networks."""

__all__ = [
    'PUBLISHED_ACTUAL',
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
    rows = zip(PUBLISHED_FILES, PUBLISHED_PREDICTED[name], PUBLISHED_ACTUAL, strict=True)
    return [
        {
            'file_name': file_name,
            'predicted': predicted,
            'actual': actual,
            'difference': abs(predicted - actual),
        }
        for file_name, predicted, actual in rows
    ]
