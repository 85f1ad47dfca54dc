# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the page about a comparison says of fluxes: how good they are, or how far they agree."""

import numpy as np
from astropy.table import vstack

from astroflux.evaluation._comparison_panels import MIN_GALAXIES, in_figure
from astroflux.evaluation._page import page_figure
from astroflux.evaluation._tables import page_table
from astroflux.evaluation.comparison_plots import (
    binned_figure,
    calibration_figure,
    differences_figure,
)
from astroflux.evaluation.metrics import split_into_bins
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.summary import (
    MEDIAN,
    PAIR_COLUMNS,
    SUMMARY_COLUMNS,
    compare_pairs,
    drop_empty_bins,
    fluxes_by_method,
    labeled,
    median_fluxes,
    summarize_bound,
    summarize_comparison,
)

__all__ = ['SNR_MIN', 'calibration_of', 'results_with_truth', 'results_without_truth']

# The residuals against other parameters are of galaxies brighter than this: below, the noise
# hides all else.
SNR_MIN = 20


# where there is truth


def results_with_truth(comparison, styles):
    """Say how good the fluxes are: tables by file name, and what the template asks for."""
    summary = summarize_comparison(comparison, 'snr' if comparison.knows_snr else None)
    figures, by_parameter = _by_parameters(comparison, styles)
    tables = {'summary.ecsv': summary}
    if by_parameter:
        tables['summary_by_parameter.ecsv'] = vstack(by_parameter)
    content = {
        'summary': _summary_table(comparison, summary),
        'n_outside': _count_outside(comparison),
        'snr_figure': None,
        'has_bound': False,
        'no_bound': comparison.meta.get('no_bound'),
        'parameter_figures': figures,
        **calibration_of(comparison, styles, summary if comparison.knows_snr else None),
    }
    if comparison.knows_snr:
        bounds = summarize_bound(comparison)
        content['has_bound'] = bool(np.any(bounds['n'] > 0))
        if in_figure(summary, 'bias').any():
            content['snr_figure'] = page_figure(
                'by_snr',
                binned_figure(summary, PARAMETERS['snr'], styles, bounds=bounds),
                alt=f'Two panels against true S/N: bias, and scatter, of {comparison.label_text}. '
                'The numbers are in the summary table.',
                caption='Bias and scatter of ln flux in bins of true S/N, with bootstrap errors.',
            )
    return tables, content


def _count_outside(comparison):
    """How many cutouts are in no bin of the summary."""
    if not comparison.knows_snr:
        return 0
    bins = split_into_bins(comparison.truth['snr'], PARAMETERS['snr'].edges)
    return len(comparison.truth) - int(sum(inside.sum() for *_, inside in bins))


def _by_parameters(comparison, styles):
    """Figures and rows of the summaries by parameters besides S/N."""
    snr_min = SNR_MIN if comparison.knows_snr else None
    figures, tables = [], []
    for parameter in _other_parameters(comparison):
        rows = summarize_comparison(comparison, parameter.name, snr_min=snr_min)
        if not in_figure(rows, 'bias').any():
            continue
        figures.append(
            page_figure(
                f'by_{parameter.name}',
                binned_figure(rows, parameter, styles),
                alt=f'Two panels against {parameter.label}: bias, and scatter, of '
                f'{comparison.label_text}. The numbers are in the file summary_by_parameter.ecsv.',
                caption=f'Bias and scatter by {parameter.label}.',
            )
        )
        rows.add_column(np.full(len(rows), parameter.name), name='parameter', index=0)
        tables.append(rows)
    return figures, tables


def _other_parameters(comparison):
    """Parameters besides S/N of which enough is known for a figure."""
    truth = comparison.truth
    selected = np.full(len(truth), True)
    if comparison.knows_snr:
        selected = np.asarray(truth['snr'], float) > SNR_MIN
    for name, parameter in PARAMETERS.items():
        if name == 'snr' or name not in truth.colnames:
            continue
        values = np.asarray(truth[name], float)[selected]
        counts, _ = np.histogram(values[np.isfinite(values)], parameter.edges)
        if counts.max() >= MIN_GALAXIES:
            yield parameter


def calibration_of(comparison, styles, summary):
    """Whether the errors mean what they say; ``summary`` is that by S/N, if known."""
    pulls = {
        method: np.asarray(comparison.of_method(method)['pull'], float)
        for method in comparison.labels
    }
    calibrated = {
        method: style
        for method, style in styles.items()
        if np.isfinite(pulls[method]).sum() >= MIN_GALAXIES
    }
    content = {
        'calibration_figure': None,
        'without_errors': [
            label for method, label in comparison.labels.items() if method not in calibrated
        ],
    }
    if not calibrated:
        return content
    labels = ', '.join(comparison.labels[method] for method in calibrated)
    alt = (
        'How often the truth lies within intervals of the errors that are given, against how '
        f'often it should, of {labels}.'
    )
    caption = (
        'How often the truth lies within as many errors of the flux as a Gaussian needs for the '
        'nominal coverage, of all measurements with an error. On the grey line it is as it '
        'should be; below, the errors are too small, above, too large.'
    )
    if summary is not None and not in_figure(summary, 'coverage_68').any():
        summary = None
    if summary is not None:
        alt += ' A second panel has the 68 % interval against true S/N.'
        caption += (
            ' On the right, how often the 68 % interval that the method gives, which need not be '
            'symmetric, holds it, in bins of true S/N.'
        )
    figure = calibration_figure(pulls, calibrated, summary=summary, parameter=PARAMETERS['snr'])
    content['calibration_figure'] = page_figure('calibration', figure, alt=alt, caption=caption)
    return content


def _summary_table(comparison, summary):
    """The summary as a table on the page."""
    # Bin by bin, so that the methods stand below each other.
    summary = drop_empty_bins(summary)
    bin_by_bin = summary[np.argsort(summary['low'], kind='stable')]
    of_bins = 'in bins of true S/N' if comparison.knows_snr else 'on all cutouts'
    return page_table(
        f'Errors of the methods {of_bins}, with 1-sigma bootstrap errors.',
        SUMMARY_COLUMNS,
        labeled(bin_by_bin, comparison),
        group_by='low',
    )


# where there is none


def results_without_truth(comparison, styles):
    """Say how far the methods agree, as `results_with_truth` says how good they are."""
    pairs = compare_pairs(comparison)
    content = {'to_median': None, 'pairs': None, 'differences_figure': None}
    if len(comparison.labels) > 1:
        of_median = pairs['reference'] == MEDIAN
        content['to_median'] = page_table(
            'Each method against the median of all methods, the reference.',
            [column for column in PAIR_COLUMNS if column.name != 'reference'],
            labeled(pairs[of_median], comparison),
        )
        content['pairs'] = page_table(
            'Each method against each other.', PAIR_COLUMNS, labeled(pairs[~of_median], comparison)
        )
        fluxes = fluxes_by_method(comparison)
        median = median_fluxes(fluxes)
        ln_ratios = np.log((fluxes / median).value)
        if np.isfinite(median).sum() >= MIN_GALAXIES:
            content['differences_figure'] = page_figure(
                'differences',
                differences_figure(
                    median.value,
                    dict(zip(comparison.labels, ln_ratios, strict=True)),
                    styles,
                    unit=str(fluxes.unit),
                ),
                alt='A panel per method with ln(flux / median of the methods) against that median, '
                f'of {comparison.label_text}. The numbers are in the tables.',
                caption='Fluxes over the median of the methods. Triangles at the edge lie beyond '
                'it; the black line is the running median.',
            )
    return {'summary.ecsv': pairs}, content
