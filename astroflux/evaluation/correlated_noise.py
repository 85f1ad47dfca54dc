# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The information in an image whose noise is correlated between neighboring pixels."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, toeplitz
from scipy.ndimage import binary_dilation

__all__ = ['correlated_information']

# Noise that is not seen tells of itself by so many pixels about it: beyond, the inverse of the
# covariance has fallen to a part in a hundred.
LAYER = 2

# A kernel is the product of two if the second singular value is below this part of the first.
SEPARABLE = 1e-6


def correlated_information(weighted, used, kernel):
    """
    Sum the products of images in correlated noise, as the Fisher information does.

    For noise that is white noise convolved with the product of a kernel in x and one in y, the
    inverse of the covariance is the product of those in x and in y, the edges included. Pixels
    that are not used are taken out of it (for instance Petersen & Pedersen 2012, The Matrix
    Cookbook, section 9.1.5, on the inverse of a part of a matrix).

    Parameters
    ----------
    weighted : 3D `~numpy.ndarray`
        ``(n, ny, nx)``, divided by the standard deviation of the noise, and 0 where not used.
    used : 2D `~numpy.ndarray` of bool
        Which pixels count.
    kernel : 2D `~numpy.ndarray`
        What white noise is convolved with; of any normalization.

    Returns
    -------
    information : 2D `~numpy.ndarray`
        ``(n, n)``.

    Raises
    ------
    ValueError
        If the kernel is not the product of a column and a row.
    """
    kernel = np.asarray(kernel, float)
    columns, values, rows = np.linalg.svd(np.atleast_2d(kernel))
    if kernel.ndim != 2 or np.any(values[1:] > SEPARABLE * values[0]):
        msg = f'kernel must be the product of a column and a row, got the shape {kernel.shape}'
        raise ValueError(msg)
    ny, nx = used.shape
    inverse_y, inverse_x = _inverse(columns[:, 0], ny), _inverse(rows[0], nx)
    whitened = inverse_y @ weighted @ inverse_x
    n = len(weighted)
    information = weighted.reshape(n, -1) @ whitened.reshape(n, -1).T
    layer = ~used & binary_dilation(used, np.ones((3, 3)), iterations=LAYER)
    if not layer.any():
        return information
    y, x = np.nonzero(layer)
    of_layer = inverse_y[np.ix_(y, y)] * inverse_x[np.ix_(x, x)]
    known = whitened[:, y, x]
    return information - known @ cho_solve(cho_factor(of_layer), known.T)


def _inverse(kernel, length):
    """Return the inverse of the correlation of noise along one axis."""
    lags = np.correlate(kernel, kernel, mode='full')[len(kernel) - 1 :]
    row = np.zeros(max(length, len(lags)))
    row[: len(lags)] = lags / lags[0]
    return np.linalg.inv(toeplitz(row[:length]))
