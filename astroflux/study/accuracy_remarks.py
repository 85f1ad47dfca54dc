# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What errors in bins and the costs show, in sentences that follow the numbers."""

import numpy as np

from astroflux.study._output import comparison_row, rounded
from astroflux.study.accuracy_cost import FITS
from astroflux.study.today_tables import METHODS

__all__ = ['binned_remark', 'cost_remarks', 'cost_rows']

# A difference of two bins by so many of its errors is seen.
CLEAR = 3.0


def binned_remark(summary, bounds, parameter):
    """
    Say how the scatter of each method varies over the bins of a parameter.

    Parameters
    ----------
    summary, bounds, parameter
        From, and as in `~astroflux.study.accuracy.accuracy_by`.

    Returns
    -------
    sentence : str
    """
    told = []
    for method in dict.fromkeys(summary['method']):
        rows = summary[(summary['method'] == method) & np.isfinite(summary['scatter_err'])]
        if len(rows) < 2:
            continue
        best, worst = rows[np.argmin(rows['scatter'])], rows[np.argmax(rows['scatter'])]
        error = np.hypot(best['scatter_err'], worst['scatter_err'])
        seen = worst['scatter'] - best['scatter'] > CLEAR * error
        told.append(
            f'{METHODS[method]} {rounded(100 * best["scatter"])} % at {_bin(best)} to '
            f'{rounded(100 * worst["scatter"])} % at {_bin(worst)}'
            f'{"" if seen else " (not beyond its errors)"}'
        )
    possible = np.asarray(bounds['scatter'], float)
    possible = 100 * possible[np.isfinite(possible)]
    return (
        f'Least and largest scatter of ln flux by {parameter.label}: {"; ".join(told)}. '
        f'At the bound {rounded(possible.min())} to {rounded(possible.max())} %.'
    )


def _bin(row):
    return f'{row["low"]:g}-{row["high"]:g}'


def cost_rows(costs):
    """
    Put the speeds where the page has the report's numbers; it printed none.

    Parameters
    ----------
    costs : `~pandas.DataFrame`
        From `~astroflux.study.accuracy_cost.cost_table`.

    Returns
    -------
    rows : list of dict
        From `~astroflux.study._output.comparison_row`.
    """
    return [
        comparison_row(f'{label}, {row["method"]}', None, row[column])
        for column, label in (
            ('per_second', 'cutouts per second and core'),
            ('median_percent', 'median error of the flux [%]'),
        )
        for row in costs.to_dict('records')
    ]


def cost_remarks(costs, missing, best):
    """
    Say what the methods cost, and whether the report's claim holds.

    Parameters
    ----------
    costs : `~pandas.DataFrame`
        From `~astroflux.study.accuracy_cost.cost_table`.
    missing : list of str
        What fits would need that were left out.
    best : str
        Which network of the study is the best one on all test images.

    Yields
    ------
    sentence : str
    """
    rows = {row['method']: row for row in costs.to_dict('records')}
    yield (
        f'Speeds are of one core, in one run, on the first {costs["n"].max()} test images, all '
        'through the same call, which reads image, noise and PSF of each cutout. The network of '
        'the study is timed with weights of chance, on which its speed does not depend. Networks '
        'get batches that suit them; a fit gets one image.'
    )
    for needs in missing:
        yield f'Light-profile fits were left out; they need {needs}.'
    study, shipped = rows[METHODS[best]], rows[METHODS['shipped']]
    for fit in (rows[label] for label in FITS.values() if label in rows):
        for network in (study, shipped):
            ratio = fit['milliseconds'] / network['milliseconds']
            speed = rounded(network['per_second'], 3), rounded(fit['per_second'])
            mse, median = (
                f'{rounded(network[name])} against {rounded(fit[name])}'
                for name in ('mse', 'median_percent')
            )
            yield (
                f'The {network["method"]} is {rounded(ratio)} times as fast as the {fit["method"]} '
                f'({speed[0]} and {speed[1]} cutouts per second), '
                f'{_accuracy_text(network, fit)}: an MSE of log10 flux of {mse}, a median error of '
                f'{median} %.'
            )


def _accuracy_text(network, fit):
    """Compare errors, if they are of the same galaxies."""
    if network['n_failed'] or fit['n_failed']:
        counts = ', '.join(
            f'{row["n_failed"]} of {row["n"]} by the {row["method"]}' for row in (network, fit)
        )
        return f'and errors do not compare, as some failed ({counts})'
    return f'and {"more" if network["mse"] < fit["mse"] else "less"} accurate on these {fit["n"]}'
