# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every figure of the study: arrays in, axes out."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from astroflux.evaluation.comparison_plots import method_styles
from astroflux.evaluation.plots import plot_cutout
from astroflux.study import published
from astroflux.study.catalogue import MAX_FLUX, MIN_FLUX, correlation

COLORS = {'training': '#2b6cb0', 'test': '#c05621'}
BLUE, RED, GREY = '#0072b2', '#d55e00', '0.45'
COLUMN_LABELS = {
    'total_flux': 'total flux (ADU)',
    'log_total_flux': 'log$_{10}$(total flux / ADU)',
    'R_e': 'half-light radius $R_e$ (arcsec)',
    'Bt': 'bulge-to-total ratio $B/T$',
}
FLUX_LABEL = 'log$_{10}$ (flux / ADU)'

N_BINS = 30


def panels(width, height, n_rows=1, n_columns=1, **options):
    """Return the panels of a new figure of so many inches: axes, or an array of them."""
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure.subplots(n_rows, n_columns, **options)


def plot_example(image, noise, *, title=None):
    """Show an image with an asinh stretch and a color bar in ADU."""
    ax = panels(5.4, 4.4)
    plot_cutout(ax, image, noise, title=title)
    label = 'ADU per pixel (asinh stretch)'
    ax.figure.colorbar(ax.images[0], ax=ax, label=label, ticks=[0, 1, 10, 100], format='{x:g}')
    ticks = np.arange(0, image.shape[0], 20)
    ax.set(xticks=ticks, yticks=ticks, xlabel='x (pixel)', ylabel='y (pixel)')
    return ax


def plot_fluxes(tables):
    """Plot histograms of the flux and its logarithm, a row for each set, beside a flat flux."""
    axes = panels(8.4, 6.0, len(tables), 2, squeeze=False)
    for (left, right), (name, table) in zip(axes, tables.items(), strict=True):
        edges = np.linspace(0, MAX_FLUX, N_BINS + 1)
        _plot_histogram(left, table['total_flux'], edges, edges, name)
        # room for the legend above the level histogram
        left.set_ylim(0, 1.35 * left.get_ylim()[1])
        left.set_xticks(np.arange(0, MAX_FLUX + 1, 10_000))
        left.xaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
        edges = np.linspace(table['log_total_flux'].min(), np.log10(MAX_FLUX), N_BINS + 1)
        _plot_histogram(right, table['log_total_flux'], edges, 10**edges, name)
    return axes


def _plot_histogram(ax, values, edges, flux, name):
    ax.hist(values, edges, color=COLORS[name], alpha=0.75, label=f'{name} set')
    expected = len(values) * np.diff(np.maximum(flux, MIN_FLUX)) / (MAX_FLUX - MIN_FLUX)
    ax.stairs(expected, edges, color='0.15', linewidth=1.2, label='flat flux')
    ax.set(xlabel=COLUMN_LABELS[values.name], ylabel='galaxies per bin')
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    ax.legend(loc='upper left', fontsize=8, frameon=False)


def plot_pairs(tables):
    """Plot the columns of a table against each other as the report does, a row for each set."""
    axes = panels(10.5, 6.4, len(tables), len(published.PAIRS), squeeze=False)
    for row, (name, table) in zip(axes, tables.items(), strict=True):
        # fainter if they are many, so that their density shows
        style = {'s': 3, 'alpha': min(0.8, 5000 / len(table)), 'color': COLORS[name]}
        for ax, (x, y) in zip(row, published.PAIRS, strict=True):
            ax.scatter(table[x], table[y], linewidths=0, rasterized=True, **style)
            ax.set(xlabel=COLUMN_LABELS[x], ylabel=COLUMN_LABELS[y])
            ax.set_title(f'{name} set: r = {correlation(table[x], table[y]):+.3f}', fontsize=9)
            if y == 'total_flux':
                ax.yaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    return axes


def plot_predictions(actual, predictions):
    """Plot predicted against actual log fluxes, a panel for each model: its title, its values."""
    n = len(predictions)
    axes = panels(max(4.4 * n, 4.8), 4.2, 1, n, sharex=True, sharey=True, squeeze=False)[0]
    ends = [np.min(actual), np.max(actual)]
    alpha = 0.6 if len(actual) < 2000 else 0.15
    for ax, (title, predicted) in zip(axes, predictions.items(), strict=True):
        ax.plot(ends, ends, color=GREY, linewidth=1.2, label='perfect prediction')
        ax.axhline(np.mean(actual), color=RED, linewidth=1.2, linestyle='--', label='actual mean')
        ax.plot(actual, predicted, 'o', markersize=2.5, mew=0, color=BLUE, alpha=alpha)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(f'actual {FLUX_LABEL}')
    axes[0].set_ylabel(f'predicted {FLUX_LABEL}')
    axes[0].legend(fontsize=8, loc='upper left')
    return axes


def plot_confusion(counts, classes, *, title):
    """Show how often each class (row) was predicted as which (column)."""
    ax = panels(5, 4.2)
    shown = ax.imshow(counts, cmap='Blues', vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        text = f'{count}\n{100 * count / max(counts[row].sum(), 1):.0f} %'
        _write_in_cell(ax, row, column, text, white=count > 0.6 * counts.max(), fontsize=9)
    ax.set_xticks(range(len(classes)), classes)
    ax.set_yticks(range(len(classes)), classes, rotation=90, va='center')
    ax.set(xlabel='predicted flux', ylabel='actual flux')
    ax.set_title(title, fontsize=10)
    ax.figure.colorbar(shown, ax=ax, label='galaxies', fraction=0.046, pad=0.03)
    return ax


def _write_in_cell(ax, row, column, text, *, white, fontsize):
    color = 'white' if white else 'black'
    ax.text(column, row, text, ha='center', va='center', fontsize=fontsize, color=color)


def plot_information(information):
    """Plot what `~astroflux.study.tabular.column_information` finds, beside shuffled fluxes."""
    ax = panels(6, 1.3 + 0.27 * len(information))
    columns, actual = information['column'], information['information']
    shuffled = information['shuffled_largest']
    ax.barh(columns, shuffled, height=0.7, color='0.85', label='largest of shuffled fluxes')
    ax.barh(columns, actual, height=0.32, color=BLUE, label='the actual fluxes')
    ax.legend(loc='lower right', fontsize=8)
    ax.tick_params(axis='y', labelsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.45 * max(actual.max(), shuffled.max()))
    ax.set_xlabel('mutual information with log flux [nat]')
    return ax


def plot_scree(scree):
    """Plot the variance of each principal component, and of all up to it."""
    left, right = axes = panels(9.4, 3.8, 1, 2)
    numbers, label = scree['component'], 'columns shuffled (95th percentile)'
    left.plot(numbers, scree['eigenvalue'], marker='o', color=BLUE, label='the table')
    left.plot(numbers, scree['shuffled'], linestyle='--', color=GREY, label=label)
    left.set(ylabel='variance [columns]', ylim=(0, None))
    left.legend(fontsize=8)
    right.plot(numbers, 100 * scree['cumulative'], marker='o', color=BLUE)
    right.set(ylabel='variance up to this component [%]', ylim=(0, 104))
    for ax in axes:
        ax.set(xticks=numbers, xlabel='principal component')
        ax.grid(visible=True, color='0.9', linewidth=0.6)
    return axes


def plot_loadings(tables):
    """Show loadings of columns on components as colors and numbers, a panel for each table."""
    widths = [loadings.shape[1] - 1 for loadings in tables.values()]
    width = 2.2 * len(tables) + 0.5 * sum(widths)
    axes = panels(width, 4.8, 1, len(tables), width_ratios=widths)
    for ax, (title, loadings) in zip(axes, tables.items(), strict=True):
        loadings = loadings.set_index('column')
        shown = ax.imshow(loadings, cmap='RdBu_r', vmin=-1, vmax=1, aspect='auto')
        for (row, column), value in np.ndenumerate(loadings):
            white = abs(value) > 0.65
            _write_in_cell(ax, row, column, f'{value:z.2f}', white=white, fontsize=7)
        ax.set_xticks(range(loadings.shape[1]), loadings.columns)
        ax.set_yticks(range(len(loadings)), loadings.index, fontsize=8)
        ax.set_title(title, fontsize=10)
    label = 'correlation with the column'
    axes[0].figure.colorbar(shown, ax=list(axes), label=label, fraction=0.03)
    return axes


def plot_components_r2(table):
    """Plot how well a number of components predicts the flux, a panel for each decomposition."""
    axes = panels(9.4, 3.8, 1, 2, sharey=True)
    for ax, (kind, rows) in zip(axes, table.groupby('decomposition', sort=False), strict=True):
        numbers, band = rows['n_components'], 1e3 * rows[['shuffled_low', 'shuffled_high']].T
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.fill_between(numbers, *band.to_numpy(), color='0.85', label='shuffled fluxes, 95 %')
        ax.plot(numbers, 1e3 * rows['r2'], marker='o', color=BLUE, label='actual fluxes')
        ax.set(xticks=numbers, xlabel=f'number of {"components" if kind == "PCA" else "factors"}')
        ax.set_title(kind, fontsize=10)
    axes[0].set_ylabel('R$^2$ of log flux, test set [10$^{-3}$]')
    axes[0].legend(fontsize=8, loc='lower left')
    return axes


# Figures of the networks and of the estimators of today

LOSS_LABEL = 'loss: MSE of log$_{10}$ flux [dex$^2$]'
LINE_COLORS = (BLUE, RED, '#009e73', '#cc79a7', '#e69f00', '#56b4e9', 'black', '#999999')
TRUE_FLUX_LABEL = 'true flux [ADU]'

LARGEST_PERCENT = 1000.0


def _use_log_loss(ax):
    ax.set_yscale('log')
    low, high = ax.get_ylim()
    # a range of one or two decades has few powers of ten in it
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    _use_plain_numbers(ax.yaxis)


def _use_plain_numbers(*axes):
    for axis in axes:
        axis.set_major_formatter(StrMethodFormatter('{x:g}'))
        axis.set_minor_formatter(NullFormatter())


def plot_losses(groups, *, variance):
    """Plot losses by epoch, a panel for each title, curves by label, and single losses by label."""
    n = len(groups)
    axes = panels(4.3 * n + 0.4, 5.0, 1, n, squeeze=False)[0]
    for ax, (title, curves, marks) in zip(axes, groups, strict=True):
        ax.axhline(variance, color=GREY, linewidth=1.2, linestyle=':', label='variance of log flux')
        for color, (label, losses) in zip(LINE_COLORS * 3, curves.items(), strict=False):
            ax.plot(np.arange(len(losses)) + 1, losses, '.-', color=color, label=label)
        for marker, (label, (epoch, loss)) in zip('Dsx', marks.items(), strict=False):
            ax.plot(epoch, loss, marker, color='black', mfc='none', markersize=7, label=label)
        lengths = [len(losses) for losses in curves.values()]
        n_epochs = max(lengths + [epoch for epoch, _ in marks.values()])
        ax.set_title(title, fontsize=10)
        ax.set(xlabel='epoch', xlim=(0.6, n_epochs + 0.4))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        _use_log_loss(ax)
        ax.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2)
    axes[0].set_ylabel(LOSS_LABEL)
    return axes


def plot_differences(away, *, title):
    """Plot how often log fluxes are off by how much; what is beyond 2 dex is in the last bin."""
    ax = panels(5.6, 3.6)
    edges = np.arange(0, 2.1, 0.05)
    middle_of_last = (edges[-1] + edges[-2]) / 2
    ax.hist(np.minimum(away, middle_of_last), bins=edges, color=BLUE)
    median = float(np.median(away))
    style = {'color': RED, 'linewidth': 1.2, 'linestyle': '--'}
    ax.axvline(min(median, middle_of_last), label=f'median {median:.3g} dex', **style)
    ax.set_title(title, fontsize=10)
    ax.set_yscale('log')
    ax.set_ylim(bottom=0.7)
    ax.set(ylabel='test images', xlabel='|predicted - actual| [dex]', xlim=(0, edges[-1]))
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    ax.legend(fontsize=8, loc='upper right')
    return ax


def plot_layers(layers):
    """Draw a network from left to right: what each layer does, what leaves it, its parameters."""
    ax = panels(1.72 * len(layers), 1.9)
    ax.set_axis_off()
    box = {'boxstyle': 'round,pad=0.5', 'facecolor': '#e8f1f8', 'edgecolor': BLUE}
    arrow = {'arrowstyle': '->', 'color': GREY}
    for place, (what, output, layer) in enumerate(layers):
        text = f'{what}\n\n{output}'
        if layer:
            text += f'\n{sum(weights.numel() for weights in layer.parameters()):,} parameters'
        ax.text(place, 0, text, ha='center', va='center', fontsize=8, bbox=box)
        if place:
            ax.annotate('', xy=(place - 0.44, 0), xytext=(place - 0.56, 0), arrowprops=arrow)
    ax.set_xlim(-0.55, len(layers) - 0.45)
    ax.set_ylim(-1, 1)
    return ax


def plot_joined(losses, *, n_epochs):
    """Plot the test losses of networks by what they see, a point for each seed."""
    ax = panels(6.6, 3.8)
    for place, (color, values) in enumerate(zip(LINE_COLORS, losses.values(), strict=False)):
        shift = 0.06 * (np.arange(len(values)) - (len(values) - 1) / 2)
        ax.plot(place + shift, values, 'o', color=color)
        mean = float(np.exp(np.mean(np.log(values))))
        ax.plot([place - 0.25, place + 0.25], [mean, mean], color=color, linewidth=1.5)
    ax.set_xticks(range(len(losses)), losses)
    ax.set(xlim=(-0.6, len(losses) - 0.4), ylabel=f'test {LOSS_LABEL}')
    title = f'after {n_epochs} epochs: a point for each seed, a line for their geometric mean'
    ax.set_title(title, fontsize=10)
    ax.margins(y=0.2)
    _use_log_loss(ax)
    return ax


def plot_residuals(flux, percents):
    """Plot errors in percent against the true flux, a panel for each method; a failure is NaN."""
    n = percents.shape[1]
    options = {'sharex': True, 'sharey': True, 'squeeze': False}
    axes = panels(10.5, 0.8 + 2.5 * -(-n // 4), -(-n // 4), 4, **options).ravel()
    styles = method_styles({label: label for label in percents}).values()
    for ax, style, (label, percent) in zip(axes, styles, percents.items(), strict=False):
        failed = percent.isna()
        for level, line in ((0, '-'), (-10, ':'), (10, ':')):
            ax.axhline(level, color=GREY, linewidth=0.8, linestyle=line, zorder=0)
        points = {'markersize': 2, 'markeredgewidth': 0, 'color': style['color']}
        alpha = 0.7 if len(flux) < 1000 else 0.25
        ax.plot(flux, percent.clip(upper=LARGEST_PERCENT), 'o', alpha=alpha, **points)
        edge = np.full(failed.sum(), -0.5 * LARGEST_PERCENT)
        ax.plot(flux[failed], edge, 'x', markersize=4, color='black')
        ax.set_title(label + (f' ({failed.sum()} failed: x)' if failed.any() else ''), fontsize=9)
    for above, ax in zip(axes[n - 4 :], axes[n:], strict=False):
        # the panel above it has the numbers instead
        above.xaxis.set_tick_params(labelbottom=True)
        ax.remove()
    ax = axes[0]
    ax.set_xscale('log')
    ax.set_yscale('symlog', linthresh=0.1, linscale=0.6)
    ax.set_ylim(-1.8 * LARGEST_PERCENT, 1.8 * LARGEST_PERCENT)
    ax.set_yticks([-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:+g}' if value else '0'))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.figure.supxlabel(TRUE_FLUX_LABEL, fontsize=10)
    ax.figure.supylabel('measured / true flux - 1 [%]', fontsize=10)
    return axes[:n]


def plot_scatter(flux, curves, *, bound):
    """Plot scatters and the bound against the true flux, a panel for each center of deviations."""
    axes = panels(10.5, 5, 1, len(curves), sharex=True, sharey=True)
    for ax, (about, scatters) in zip(axes, curves.items(), strict=True):
        for label, style in method_styles({label: label for label in scatters}).items():
            ax.plot(flux, scatters[label], markersize=4.5, linewidth=0.8, **style)
        ax.plot(flux, bound, color='black', linewidth=2.5, label='information bound', zorder=5)
        _use_log_grid(ax)
        ax.set_xlabel(TRUE_FLUX_LABEL)
        ax.set_title(f'about the {about}', fontsize=10)
    axes[0].set_ylabel('scatter of ln flux (NMAD) [%]')
    handles = axes[0].get_legend_handles_labels()[0]
    options = {'ncols': 4, 'frameon': False, 'fontsize': 9}
    axes[0].figure.legend(handles=handles, loc='outside upper center', **options)
    return axes


def _use_log_grid(ax):
    ax.set(xscale='log', yscale='log')
    _use_plain_numbers(ax.xaxis, ax.yaxis)
    ax.grid(visible=True, color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)


def plot_costs(costs):
    """Plot the median error of methods against their speed, from ``accuracy_cost.csv``."""
    ax = panels(7.4, 4.2)
    rows = costs.set_index('method').sort_index()
    for method, style in method_styles({method: method for method in rows.index}).items():
        point = rows.loc[method, ['per_second', 'median_percent']]
        ax.plot(*point, markersize=8, linestyle='none', **style)
    _use_log_grid(ax)
    ax.margins(0.12)
    ax.set(xlabel='cutouts per second and core', ylabel='median |error| of the flux [%]')
    ax.figure.legend(loc='outside right upper', frameon=False, fontsize=9)
    return ax
