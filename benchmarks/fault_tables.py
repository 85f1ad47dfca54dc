# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables and the figure of what faults of cutouts do."""

import textwrap

import numpy as np
from fault_galaxies import NOISE, SIDE
from fault_remedies import REMEDIES
from faults import CONTROL, KINDS, PADDINGS
from matplotlib.figure import Figure
from report import rst_table

from astroflux.estimators.methods import KNOWN_METHODS
from astroflux.evaluation._numbers import MISSING
from astroflux.evaluation.plots import plot_cutout

__all__ = [
    'contact_sheet',
    'flags_table',
    'others_table',
    'padding_table',
    'remedies_table',
    'terminal_lines',
    'verdict_table',
]

# Flags that fewer have are not named.
NAMED = 0.05
FLAGS_NAMED = 3

# What is shown of a stamp with the galaxy in its middle, in pixels, and panels in a row.
SHOWN = 81
IN_A_ROW = 6


def _percent(value, form='.0f'):
    return MISSING if value is None else f'{100 * value:{form}}'


def _bias(figures):
    """Write a bias with its error, of which one galaxy has none."""
    bias, error = figures['bias'], figures['bias_err']
    text = _percent(bias, '+.1f')
    return text if error is None else f'{text} ± {_percent(error, ".1f")}'


def _names(flags, at_least):
    """Name the flags that so many have, with per cent."""
    return [f'{name} {100 * share:.0f}' for name, share in flags.items() if share >= at_least]


def _rows_of(results, cells):
    """Return the rows of a table, of all faults but padding."""
    return [[title, *cells(found)] for title, found in results.items() if title not in PADDINGS]


def verdict_table(results):
    """Return the table of the network: what each fault does, and whether it is noticed."""
    header = ['fault', 'bias [%]', 'scatter [%]', 'beyond 30 %', 'in 68 % interval [%]']
    header += ['flagged [%]', 'verdict']

    def cells(found):
        return [
            _bias(found),
            _percent(found['scatter'], '.1f'),
            _percent(found['outliers']),
            _percent(found['coverage_68']),
            _percent(found['flagged']),
            found['verdict'],
        ]

    return rst_table(header, _rows_of(results, cells))


def flags_table(results):
    """Return the table of what warns, and what rows without a warning are worth."""
    header = ['fault', 'flags [%]', 'the others: bias [%]', 'in 68 % interval [%]']

    def cells(found):
        return [
            ', '.join(_names(found['flags'], NAMED)[:FLAGS_NAMED]) or MISSING,
            _bias(found['unflagged']),
            _percent(found['unflagged']['coverage_68']),
        ]

    return rst_table(header, _rows_of(results, cells))


def remedies_table(results):
    """Return the table of what becomes right if the user does something."""
    header = ['fault', 'what was done', 'bias [%]', 'scatter [%]', 'in 68 % interval [%]']
    rows = []
    for title, remedy in REMEDIES.items():
        found, remedied = results[title], results[title]['remedied']
        figures = (('scatter', '.1f'), ('coverage_68', '.0f'))
        pairs = [(_percent(found['bias'], '+.1f'), _bias(remedied))]
        pairs += [
            (_percent(found[key], form), _percent(remedied[key], form)) for key, form in figures
        ]
        rows.append([title, remedy.name, *(f'{before} → {after}' for before, after in pairs)])
    return rst_table(header, rows)


def others_table(methods):
    """Return the table of several methods, by their names: bias, and how many are flagged."""
    figures = (('bias [%]', 'bias', '+.1f'), ('flagged [%]', 'flagged', '.0f'))
    header = ['fault']
    header += [f'{KNOWN_METHODS[name].label}: {head}' for name in methods for head, _, _ in figures]
    rows = [
        [
            title,
            *(
                _percent(results[title][key], form)
                for results in methods.values()
                for _, key, form in figures
            ),
        ]
        for title in KINDS
        if title not in PADDINGS
    ]
    return rst_table(header, rows)


def padding_table(results):
    """Return the table of what padding changes."""
    header = ['stamp', 'flux changes by [%], median', 'at most', 'in errors, median', 'at most']
    header += ['error changes by [%], at most']
    rows = []
    for title in PADDINGS:
        change = results[title]['change']
        rows.append(
            [
                title,
                f'{100 * change["median"]:.2f}',
                f'{100 * change["largest"]:.2f}',
                f'{change["median_errors"]:.2f}',
                f'{change["largest_errors"]:.2f}',
                f'{100 * change["error"]:.1f}',
            ]
        )
    return rst_table(header, rows)


def terminal_lines(results):
    """Return what a terminal has room for, with all flags."""
    head = f'{"":30s}    bias 68 % | unflagged, bias, 68 % interval, verdict, flags [%]'
    lines = [head]
    for title, found in results.items():
        rest = found['unflagged']
        cells = [
            f'{title:30s}',
            f'{_percent(found["bias"], "+.1f"):>7s}',
            f'{_percent(found["coverage_68"]):>4s} |',
            f'{_percent(1 - found["flagged"]):>3s}',
            f'{_percent(rest["bias"], "+.1f"):>7s}',
            f'{_percent(rest["coverage_68"]):>4s}',
            f'{found["verdict"]:7s}',
            *_names(found['flags'], 0),
        ]
        lines.append(' '.join(cells))
    return '\n'.join(lines)


def _panel(ax, title, stamp, control):
    """Show a stamp, or the PSF if that is what is wrong; of wide stamps the middle."""
    title = textwrap.fill(title, 22)
    if stamp.psf.shape == control.psf.shape and np.allclose(stamp.psf, control.psf):
        data, noise = stamp.data, NOISE
    elif stamp.data.shape != control.data.shape:
        # cut to the stamp
        data, noise = stamp.data, NOISE
    else:
        data, noise = stamp.psf, stamp.psf.max() / 1000
    if stamp.mask is not None:
        data = np.where(stamp.mask, np.nan, data)
    if data.shape == (SIDE, SIDE) and stamp.position is None:
        middle = slice((SIDE - SHOWN) // 2, (SIDE + SHOWN) // 2)
        data = data[middle, middle]
    plot_cutout(ax, data, noise, title=title)


def contact_sheet(galaxy):
    """Return a figure of a galaxy with each kind of fault."""
    rows = -(-len(KINDS) // IN_A_ROW)
    figure = Figure(figsize=(10, 2.0 * rows), layout='constrained')
    axes = figure.subplots(rows, IN_A_ROW).ravel()
    control = KINDS[CONTROL](galaxy, galaxy.rng)
    for ax, (title, fault) in zip(axes, KINDS.items(), strict=False):
        _panel(ax, title, fault(galaxy, galaxy.rng), control)
    for ax in axes[len(KINDS) :]:
        ax.set_axis_off()
    return figure
