# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are, in the field's terms."""

from itertools import pairwise

import numpy as np
from astropy.stats import mad_std

__all__ = ['SNR_BINS', 'flux_error_statistics', 'summarise_by_snr']

# Edges of the bins of signal-to-noise ratio that every table uses.
SNR_BINS = (5.0, 20.0, 100.0, 500.0, 3000.0)

OUTLIER_THRESHOLD = 0.3


def flux_error_statistics(ln_error, covered=None):
    """
    Summarise errors of ln flux.

    Parameters
    ----------
    ln_error : 1D `~numpy.ndarray`
        ln(measured / true); NaN where nothing was measured.
    covered : 1D `~numpy.ndarray` of bool, optional
        Whether the 68 % interval holds the truth.

    Returns
    -------
    statistics : dict
        ``n``; ``measured``, the fraction that is not NaN; of those:
        ``bias``, the median error; ``scatter``, 1.4826 times the median
        absolute deviation from the median (NMAD); ``rms``, the root mean
        square about zero; ``outliers``, the fraction with a flux off by more
        than 30 %; ``coverage``, the fraction covered (NaN if not given).
    """
    ln_error = np.asarray(ln_error, float)
    good = np.isfinite(ln_error)
    errors = ln_error[good]
    if len(errors) == 0:
        nan = float('nan')
        return {
            'n': len(ln_error),
            'measured': 0.0,
            **dict.fromkeys(('bias', 'scatter', 'rms', 'outliers', 'coverage'), nan),
        }
    coverage = float('nan') if covered is None else float(np.mean(np.asarray(covered)[good]))
    return {
        'n': len(ln_error),
        'measured': float(np.mean(good)),
        'bias': float(np.median(errors)),
        'scatter': float(mad_std(errors)),
        'rms': float(np.sqrt(np.mean(errors**2))),
        'outliers': float(np.mean(np.abs(np.expm1(errors)) > OUTLIER_THRESHOLD)),
        'coverage': coverage,
    }


def summarise_by_snr(snr, ln_error, covered=None, *, bins=SNR_BINS):
    """
    Summarise errors of ln flux in bins of signal-to-noise ratio.

    Parameters
    ----------
    snr : 1D `~numpy.ndarray`
        True ``sqrt(sum(model**2)) / sigma``.
    ln_error, covered : 1D `~numpy.ndarray`
        As in `flux_error_statistics`.
    bins : sequence of float
        Edges; a bin holds its lower edge.

    Returns
    -------
    rows : list of dict
        ``snr_low``, ``snr_high`` and the entries of `flux_error_statistics`.
    """
    rows = []
    for low, high in pairwise(bins):
        inside = (snr >= low) & (snr < high)
        statistics = flux_error_statistics(
            ln_error[inside], None if covered is None else covered[inside]
        )
        rows.append({'snr_low': low, 'snr_high': high, **statistics})
    return rows
