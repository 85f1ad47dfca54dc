# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are: metrics and figures."""

from astroflux.evaluation.metrics import SNR_BINS, flux_error_statistics, summarise_by_snr

__all__ = ['SNR_BINS', 'flux_error_statistics', 'summarise_by_snr']
