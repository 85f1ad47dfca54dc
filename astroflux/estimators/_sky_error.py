# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The error of the sky that was subtracted, as a part of the error of the flux."""

import copy

import numpy as np

__all__ = ['ENDS', 'with_sky_error']

# Ends of intervals and of how many sigma of a normal distribution they are.
ENDS = {'flux_lower': -1.0, 'flux_upper': 1.0, 'flux_lower_95': -1.96, 'flux_upper_95': 1.96}


def with_sky_error(measure_batch, cutouts, results):
    """
    Add the error of the sky to those of the fluxes, where there is one.

    The cutouts are measured a second time with a sky that is higher by its error: the difference is
    what the error of the sky makes of the flux, whatever the method.

    Parameters
    ----------
    measure_batch : callable
        Measures a list of `~astroflux.cutouts.Cutout`.
    cutouts : list of `~astroflux.cutouts.Cutout`
        What was measured.
    results : dict of str to array_like
        What came of it.

    Returns
    -------
    results : dict of str to array_like
    """
    rows = [index for index, cutout in enumerate(cutouts) if cutout.sky_err > 0]
    if not rows:
        return results
    shifted = measure_batch([_with_lower_sky(cutouts[row]) for row in rows])
    flux = np.array(results['flux'], dtype=float)
    shift = np.abs(np.asarray(shifted['flux'], dtype=float) - flux[rows])
    # a galaxy that is lost with the other sky has no other measure of it
    shift[~np.isfinite(shift)] = 0.0
    results = dict(results)
    results['flux_err'] = _wider(results['flux_err'], rows, shift)
    for name, n_sigma in ENDS.items():
        if name in results:
            half = np.abs(np.asarray(results[name], dtype=float) - flux)
            half = _wider(half, rows, abs(n_sigma) * shift)
            results[name] = flux + np.sign(n_sigma) * half
    return results


def _with_lower_sky(cutout):
    """Return a cutout from which so much less sky was subtracted as its error."""
    other = copy.copy(cutout)
    other.data = cutout.data + cutout.sky_err
    if cutout.ignored is not None:
        other.data[cutout.ignored] = 0.0
    return other


def _wider(errors, rows, shift):
    errors = np.array(errors, dtype=float)
    errors[rows] = np.hypot(errors[rows], shift)
    return errors
