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
FAVOURITE_CLASS = {'logistic': 'medium', 'forest': 'high'}
