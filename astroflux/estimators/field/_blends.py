# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sources within a FWHM of each other: one measurement, divided among them."""

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from astroflux.estimators.field._sky_model import within
from astroflux.networks.source_models import SourceModels

__all__ = ['find_groups', 'shares_of_points']

# How far point sources are looked at, in FWHM.
REACH = 2.0


def find_groups(position, fwhm):
    """
    Return groups of sources each of which is within a FWHM of another one.

    Parameters
    ----------
    position : `~numpy.ndarray`
        ``(n, 2)``, in pixels; NaN of sources that are in no group.
    fwhm : `~numpy.ndarray`
        ``(n,)``, of the PSF at each in pixels; NaN where unknown.

    Returns
    -------
    groups : list of `~numpy.ndarray`
        Numbers of the sources of each, in increasing order.
    """
    good = np.flatnonzero(np.isfinite(position).all(axis=1) & np.isfinite(fwhm))
    if not len(good):
        return []
    pairs = KDTree(position[good]).query_pairs(fwhm[good].max(), output_type='ndarray')
    i, j = good[pairs].T
    near = np.hypot(*(position[i] - position[j]).T) < (fwhm[i] + fwhm[j]) / 2
    i, j = i[near], j[near]
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(fwhm), len(fwhm)))
    _, group = connected_components(graph, directed=False)
    members = np.union1d(i, j)
    order = members[np.argsort(group[members], kind='stable')]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def shares_of_points(data, noise, position, model, fwhm):
    """
    Divide the light of a blend as point sources at known positions share it.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The light of the blend and nothing else; 0 where pixels cannot be used.
    noise : float
        Of a pixel.
    position : `~numpy.ndarray`
        ``(m, 2)``, in pixels of the data.
    model : `~astroflux.networks.source_models.SourceModels`
        One source, whose PSF is that of the blend.
    fwhm : float
        Of that in pixels.

    Returns
    -------
    share, error : `~numpy.ndarray`
        ``(m,)`` each; the shares have the sum one.
    """
    m = len(position)
    points = _points(position, model)
    half = int(np.ceil(REACH * fwhm + np.ptp(position, axis=0).max()))
    columns = np.zeros((m, data.size))
    for row, corner, light in points.draw(np.full(m, half)):
        image = columns[row].reshape(data.shape)
        where, part = within(corner, light, data.shape)
        if where is not None:
            image[where] = part
    seen = (columns.max(axis=0) > 0) & (data.ravel() != 0)
    columns = columns[:, seen] / noise
    amplitude, _ = nnls(columns.T, data.ravel()[seen] / noise)
    if not amplitude.sum() > 0:
        return np.full(m, 1 / m), np.full(m, 1.0)
    share = amplitude / amplitude.sum()
    covariance = np.linalg.pinv(columns @ columns.T)
    slope = (np.eye(m) - share[:, None]) / amplitude.sum()
    variance = np.einsum('ij,jk,ik->i', slope, covariance, slope)
    # nothing is shared by more than all of it
    return share, np.minimum(np.sqrt(np.maximum(variance, 0)), 1.0)


def _points(position, model):
    """Return point sources of flux one."""
    m, k = len(position), model.flux.shape[1]
    flux = np.zeros((m, k))
    flux[:, 0] = 1
    profile = np.zeros((m, model.profile.shape[1]))
    profile[:, 1:3] = position
    none = np.zeros((m, k))
    psf = (np.repeat(part, m, axis=0) for part in (model.psf_variance, model.psf_weight))
    return SourceModels(profile, flux, none, none, none, *psf)
