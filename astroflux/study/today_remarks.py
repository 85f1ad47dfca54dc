# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the comparison with the methods of today shows, in sentences that follow the numbers."""

from astroflux.study._output import comparison_row, rounded
from astroflux.study.cnn_published import PUBLISHED_LOSSES
from astroflux.study.today_goal import GOAL_MSE, GOAL_SHARE
from astroflux.study.today_tables import BOUND, METHODS

__all__ = ['PUBLISHED_MSE', 'comparison_rows', 'remarks']

# The test losses of the report.
PUBLISHED_MSE = {name: test for name, (_, test) in PUBLISHED_LOSSES.items()}
BEST_PUBLISHED = min(PUBLISHED_MSE.values())


def comparison_rows(table):
    """
    Put the published MSEs beside those of all methods.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        From `~astroflux.study.today_tables.summarise`, of all galaxies.

    Returns
    -------
    rows : list of dict
        From `~astroflux.study._output.comparison_row`.
    """
    published = {METHODS[name]: mse for name, mse in PUBLISHED_MSE.items()}
    rows = []
    for row in table.to_dict('records'):
        method, n_failed = row['method'], row['n_failed']
        note = f', {n_failed} failures replaced' if n_failed else ''
        what = f'MSE of log10 flux, {method}{note}'
        rows.append(comparison_row(what, published.get(method), row['mse']))
        if n_failed:
            what = f'MSE of log10 flux, {method}, without failures'
            rows.append(comparison_row(what, None, row['mse_measured']))
        rows.append(comparison_row(f'beyond 10 % [%], {method}', None, 100 * row['beyond_10']))
    return rows


def remarks(table, goal, faint, *, substitute):
    """
    Say how the methods compare, and whether the goal is met.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        From `~astroflux.study.today_tables.summarise`, of all galaxies.
    goal : `~pandas.DataFrame`
        From `~astroflux.study.today_goal.goal_table`.
    faint : `~pandas.DataFrame`
        From `~astroflux.study.today_goal.part_of_the_faintest`.
    substitute : float
        log10 of the flux that stands for a failure.

    Yields
    ------
    sentence : str
    """
    by_method = {row['method']: row for row in table.to_dict('records')}
    shipped = by_method[METHODS['shipped']]
    yield _against_published(shipped)
    if n_failed := sum(row['n_failed'] for row in by_method.values()):
        counts = ', '.join(
            f'{name} {row["n_failed"]}' for name, row in by_method.items() if row['n_failed']
        )
        yield (
            f'{n_failed} measurements failed ({counts}). They count as wrong in all shares; in '
            f'the MSE each is given the mean log flux of the training set, {substitute:.3f}, '
            'which is what one would say without the image. The MSE without them stands beside.'
        )
    yield from _goal_remarks(goal)
    yield _faint_remark(faint)
    yield (
        'The bound is that of van Trees with the shapes of the population as a Gaussian prior, '
        'and the scatter of its ln flux as one of the flux: it is for small errors, and rough '
        'for galaxies that are hardly seen.'
    )


def _against_published(shipped):
    ratio = BEST_PUBLISHED / shipped['mse_measured']
    verb = f'{ratio:.0f} times less' if ratio >= 1 else f'{1 / ratio:.1f} times more'
    return (
        f'The shipped network has an MSE of {rounded(shipped["mse_measured"])} where it measures, '
        f'{verb} than the {BEST_PUBLISHED} of the best network of the report; half of its fluxes '
        f'are within {rounded(0.6745 * shipped["scatter_percent"])} % of their median.'
    )


def _goal_remarks(goal):
    n_all = goal['n'].max()
    for selection, rows in goal.groupby('galaxies', sort=False):
        if selection == 'measured' and rows['n'].max() == n_all:
            continue
        told = []
        for row in rows.to_dict('records'):
            mse = f'{rounded(row["mse"])} ({_met(row["mse_met"])})'
            share = f'{100 * row["beyond_10"]:.3f} % beyond 10 % ({_met(row["share_met"])})'
            told.append(f'{row["method"]} {mse}, {share}')
        bound = rows.loc[rows['method'] == BOUND].iloc[0]
        possible = (
            'the bound itself is above it'
            if not (bound['mse_met'] and bound['share_met'])
            else 'the bound allows it'
        )
        n_galaxies = int(bound['n'])
        yield (
            f'The goal is an MSE of at most {GOAL_MSE:g} and less than {100 * GOAL_SHARE:g} % of '
            f'galaxies beyond 10 %. Galaxies: {selection} ({n_galaxies}). {"; ".join(told)}. '
            f'So {possible}.'
        )


def _met(is_met):
    return 'met' if is_met else 'not met'


def _faint_remark(faint):
    told = ', '.join(
        f'{100 * row["part"]:.0f} % ({row["method"]})' for row in faint.to_dict('records')
    )
    first = faint.iloc[0]
    shipped = faint.loc[faint['method'] == METHODS['shipped']].iloc[0]
    part_measured = 100 * shipped['part_measured']
    return (
        f'The part of the faintest 1 % of the galaxies ({first["n"]}, up to '
        f'{first["brightest"]:.0f} ADU) in the summed squared errors is {told}; without failures, '
        f'{part_measured:.0f} % for the shipped network.'
    )
