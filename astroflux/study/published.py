# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The numbers that the report of 2024 printed."""

import pandas as pd

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

# Ten test images: file, log10 of the flux, and of each network what it predicted and the absolute
# difference, which was rounded after it was taken.
SAMPLES = (
    ('32643.fits', 3.712337, 4.026822, 0.314485, 3.647793, 0.064545, 3.669793, 0.042544),
    ('50987.fits', 3.833273, 4.026822, 0.193549, 3.804711, 0.028562, 3.779774, 0.053499),
    ('16675.fits', 4.444304, 4.026822, 0.417482, 4.324530, 0.119774, 4.302043, 0.142262),
    ('40761.fits', 4.070180, 4.026822, 0.043358, 3.995665, 0.074515, 3.925186, 0.144995),
    ('84531.fits', 4.436304, 4.175019, 0.261284, 4.411434, 0.024870, 4.334299, 0.102005),
    ('33715.fits', 4.440171, 4.026822, 0.413349, 4.370896, 0.069275, 4.302124, 0.138047),
    ('63863.fits', 2.466246, 4.026822, 1.560576, 3.616690, 1.150444, 3.419301, 0.953055),
    ('68747.fits', 4.356729, 4.026822, 0.329906, 4.277138, 0.079591, 4.185405, 0.171323),
    ('43169.fits', 4.331399, 4.026822, 0.304577, 4.257374, 0.074025, 4.191720, 0.139678),
    ('106470.fits', 4.299706, 4.026822, 0.272884, 4.216940, 0.082767, 4.161193, 0.138513),
)


def published_samples(name):
    """Return the ten samples of a network as a table, in the order in which they are printed."""
    column = 2 + 2 * CNN_NAMES.index(name)
    rows = [(row[0], row[column], row[1], row[column + 1]) for row in SAMPLES]
    return pd.DataFrame(rows, columns=['file_name', 'predicted', 'actual', 'difference'])
