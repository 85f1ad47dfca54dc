# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The numbers that the report of 2024 printed."""

# Its sets.
N_GALAXIES = {'training': 30_000, 'test': 10_000}
N_COLUMNS = 17
IMAGE_SIDE = 143

# The rows of its figure 1. For the disc and then for the bulge: index, half-light radius, axis
# ratio, fraction of the flux; last R_e.
GALAXIES = (
    (0.827, 0.106, 0.628, 0.024, 4.113, 1.427, 0.857, 0.976, 1.372930),
    (0.840, 2.082, 0.265, 0.564, 4.631, 1.533, 0.918, 0.436, 2.169138),
    (1.148, 0.552, 0.368, 0.755, 4.531, 1.399, 0.973, 0.245, 0.690142),
    (0.952, 1.315, 0.374, 0.107, 4.951, 0.151, 0.983, 0.893, 0.193666),
    (0.984, 0.283, 0.851, 0.158, 4.586, 0.232, 0.667, 0.842, 0.245004),
    (1.147, 1.657, 0.959, 0.882, 4.159, 0.112, 0.590, 0.118, 1.452797),
    (1.131, 1.542, 0.503, 0.078, 4.705, 1.034, 0.603, 0.922, 1.129090),
    (1.088, 2.830, 0.817, 0.326, 4.356, 1.908, 0.321, 0.674, 2.493842),
    (1.116, 0.345, 0.448, 0.002, 4.370, 0.116, 0.504, 0.998, 0.128702),
    (1.135, 2.402, 0.571, 0.994, 4.034, 1.721, 0.979, 0.006, 2.484759),
)

# Its scatter plots.
PAIRS = (('Bt', 'total_flux'), ('R_e', 'total_flux'), ('Bt', 'R_e'))

# Models of the table.
LINEAR_MSE = {'all columns': 0.17889, 'R_e and Bt': 0.17867}
LINEAR_R2 = {'all columns': -0.001504, 'R_e and Bt': -0.000351}
ACCURACY = 0.34
FAVORITE_CLASS = {'logistic': 'medium', 'forest': 'high'}

# Train and test loss of its networks after the last epoch.
PUBLISHED_LOSSES = {
    'cnn-1': (0.1844, 0.1781),
    'cnn-2': (0.0815, 0.0489),
    'cnn-3': (0.0561, 0.0388),
}
CNN_NAMES = tuple(PUBLISHED_LOSSES)

# Ten test images, the same for each network: file, log10 of the flux, what was predicted, and the
# absolute difference, which was rounded after it was taken.
SAMPLE_FILES = (
    *('32643.fits', '50987.fits', '16675.fits', '40761.fits', '84531.fits'),
    *('33715.fits', '63863.fits', '68747.fits', '43169.fits', '106470.fits'),
)
SAMPLE_ACTUAL = (
    *(3.712337, 3.833273, 4.444304, 4.070180, 4.436304),
    *(4.440171, 2.466246, 4.356729, 4.331399, 4.299706),
)
SAMPLE_PREDICTED = {
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
SAMPLE_DIFFERENCES = {
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
    """Return the ten samples of a network as columns, in the order in which they are printed."""
    return {
        'file_name': SAMPLE_FILES,
        'predicted': SAMPLE_PREDICTED[name],
        'actual': SAMPLE_ACTUAL,
        'difference': SAMPLE_DIFFERENCES[name],
    }
