# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure

from astroflux.evaluation import PARAMETERS
from astroflux.evaluation.comparison_plots import (
    binned_figure,
    calibration_figure,
    differences_figure,
    extreme_case_figure,
    method_styles,
    plot_binned_statistic,
    plot_bound,
    plot_calibration,
    plot_differences,
    plot_extreme_case,
    plot_speed,
    speed_figure,
)
from astroflux.evaluation.summary import summarize_bound, summarize_comparison, summarize_speed

SNR = PARAMETERS['snr']
STYLES = method_styles({'a': 'A', 'b': 'B'})


@pytest.fixture
def ax():
    return Figure().subplots()


def make_summary(**columns):
    summary = Table(
        {
            'method': ['a', 'a', 'b', 'b'],
            'low': [5.0, 20.0, 5.0, 20.0],
            'high': [20.0, 100.0, 20.0, 100.0],
            'n': [50, 50, 50, 50],
            'completeness': [1.0, 1.0, 1.0, 1.0],
            'bias': [0.01, 0.02, -0.01, -0.02],
            'bias_err': [0.001] * 4,
        }
    )
    for name, values in columns.items():
        summary[name] = values
    return summary


def points(ax):
    """The points of each error bar, by label."""
    return {bars.get_label(): bars.lines[0].get_xydata() for bars in ax.containers}


def test_styles_of_many_methods_differ():
    styles = method_styles({str(i): f'method {i}' for i in range(12)})
    looks = {(s['color'], s['marker'], s['markerfacecolor']) for s in styles.values()}
    assert len(looks) == 12
    assert len({style['marker'] for style in styles.values()}) == 12


def test_labels_are_short_and_plain():
    styles = method_styles({'a': 'x' * 30 + 'END', 'b': '_hidden', 'c': '$x$'})
    assert len(styles['a']['label']) <= 24
    assert styles['a']['label'].endswith('END')
    assert not styles['b']['label'].startswith('_')
    assert styles['c']['label'] == r'\$x\$'


def test_methods_stand_side_by_side_in_their_bin(ax):
    assert plot_binned_statistic(ax, make_summary(), 'bias', SNR, STYLES) is ax
    of_a, of_b = points(ax)['A'], points(ax)['B']
    np.testing.assert_allclose(of_a[:, 1], [1, 2])
    np.testing.assert_allclose(of_b[:, 1], [-1, -2])
    assert np.all(of_a[:, 0] < of_b[:, 0])
    for x in (of_a[:, 0], of_b[:, 0]):
        assert 5 < x[0] < 20 < x[1] < 100
    np.testing.assert_array_equal(ax.get_xticks(), SNR.edges)
    assert ax.get_xscale() == 'log'


def test_bins_with_few_galaxies_are_left_out(ax):
    summary = make_summary(n=[50, 4, 50, 50], completeness=[1.0, 1.0, 0.05, np.nan])
    plot_binned_statistic(ax, summary, 'bias', SNR, STYLES)
    assert len(points(ax)['A']) == 1
    assert len(points(ax)['B']) == 0


def test_error_bars_reach_below_zero():
    """A scatter that may be zero has its error bar, cut off by a logarithmic axis."""
    summary = make_summary(scatter=[0.1, 0.05, 0.1, 0.1], scatter_err=[0.2, 0.01, 0.01, 0.01])
    ax = binned_figure(summary, SNR, STYLES, statistics=('scatter',)).axes[0]
    assert ax.get_yscale() == 'log'
    (bars,) = ax.containers[0].lines[2]
    for segment in bars.get_segments():
        low, high = ax.transData.transform(segment)
        assert np.all(np.isfinite([low, high]))
        assert high[1] > low[1]


def test_legend_fills_the_width():
    styles = method_styles({'a': 'A', 'b': 'B', 'c': 'C', 'd': 'a longer name of one'})
    (legend,) = binned_figure(make_summary(), SNR, styles, statistics=('bias', 'bias')).legends
    assert legend._ncols == 4


def test_bound_is_drawn_where_known(ax):
    bounds = Table({'low': [5.0, 20], 'high': [20.0, 100], 'scatter': [0.1, np.nan]})
    plot_bound(ax, bounds)
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xydata(), [[5, 10], [20, 10]])


def test_calibration_of_gaussian_pulls_is_diagonal(ax):
    rng = np.random.default_rng(0)
    pulls = {'a': rng.normal(size=20000), 'b': np.full(10, np.nan)}
    plot_calibration(ax, pulls, STYLES)
    diagonal, curve = ax.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata(), atol=1.5)


def test_errors_that_are_too_small_lie_below(ax):
    pulls = {'a': 2 * np.random.default_rng(0).normal(size=2000)}
    plot_calibration(ax, pulls, STYLES)
    assert np.all(ax.lines[1].get_ydata() < ax.lines[1].get_xdata())


def test_bars_show_the_rate(ax, comparison):
    speed = summarize_speed(comparison)
    plot_speed(ax, speed, method_styles(comparison.labels))
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(ends, np.sort(speed['rate'].value)[::-1])
    assert [text.get_text() for text in ax.texts][:2] == ['3333', '476']
    assert ax.get_yticklabels()[0].get_text() == 'CNN'


def test_differences_beyond_the_limit_are_at_the_edge(ax):
    flux, ln_ratio = [1.0, 2, 3, 4, 5], [0.1, 5, -5, np.nan, 0]
    plot_differences(ax, flux, ln_ratio, STYLES['a'], limit=0.5)
    inside, above, below = (line.get_xydata() for line in ax.lines[1:4])
    np.testing.assert_allclose(inside, [[1, 10], [5, 0]])
    assert above[:, 0] == [2]
    assert below[:, 0] == [3]
    assert ax.get_ylim() == (-50, 50)
    assert 0 < above[0, 1] < 50
    assert -50 < below[0, 1] < 0


def test_mask_is_shown_over_the_image(ax, comparison):
    case = comparison.extremes['cnn'][0]
    plot_extreme_case(ax, case)
    image, overlay = ax.images
    assert image.get_array().shape == case.image.shape
    np.testing.assert_array_equal(np.asarray(overlay.get_array())[..., 3] > 0, case.mask)


@pytest.mark.parametrize('noise', [0, np.nan, -1])
def test_case_without_noise_is_shown(comparison, noise):
    case = replace(comparison.extremes['cnn'][0], noise=noise)
    empty = replace(case, image=np.full((9, 9), np.nan), mask=np.full((9, 9), True))
    for shown in (case, empty):
        figure = extreme_case_figure(shown)
        # warnings are errors
        figure.draw_without_rendering()
        norm = figure.axes[0].images[0].norm
        assert np.isfinite([norm.vmin, norm.vmax]).all()
        assert norm.vmin < norm.vmax


@pytest.mark.parametrize(
    ('shape', 'size'), [((40, 40), (240, 240)), ((50, 100), (200, 100)), ((960, 480), (120, 240))]
)
def test_case_is_as_large_as_whole_pixels_allow(comparison, shape, size):
    case = comparison.extremes['cnn'][0]
    case = replace(case, image=np.ones(shape), mask=np.full(shape, False))
    figure = extreme_case_figure(case)
    assert tuple(np.round(figure.get_size_inches() * figure.dpi)) == size


@pytest.mark.parametrize('n_methods', [1, 4, 12])
def test_figures_hold_their_labels(comparison, n_methods):
    """Nothing is cut off or drawn on top of other panels; warnings are errors."""
    methods = list(comparison.labels)
    keys = [f'm{i}' for i in range(n_methods)]
    styles = method_styles({key: f'Some long name of method {key}' for key in keys})
    summary = summarize_comparison(comparison, n_bootstrap=10)
    tables = []
    for i, key in enumerate(keys):
        table = summary[summary['method'] == methods[i % 4]]
        table['method'] = np.full(len(table), key)
        tables += [list(row) for row in table]
    summary = Table(rows=tables, names=summary.colnames)
    speed = summarize_speed(comparison)[:1]
    rng = np.random.default_rng(0)
    flux = rng.lognormal(size=50)
    figures = [
        binned_figure(summary, SNR, styles, bounds=summarize_bound(comparison)),
        calibration_figure({keys[0]: rng.normal(size=50)}, styles, summary=summary, parameter=SNR),
        calibration_figure({}, styles),
        speed_figure(speed, styles),
        differences_figure(flux, {key: rng.normal(0, 0.1, 50) for key in keys}, styles, unit='nJy'),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        legends = [legend.get_window_extent() for legend in figure.legends]
        panels = [ax.get_window_extent() for ax in figure.axes]
        boxes = legends + panels
        for i, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert all(panel.height > 100 for panel in panels if n_methods > 1)


def test_lowest_panels_have_tick_labels():
    styles = method_styles({key: key for key in 'abcdef'})
    flux = np.geomspace(1, 1e4, 50)
    figure = differences_figure(flux, {key: np.full(50, 0.1) for key in 'abcdef'}, styles)
    figure.draw_without_rendering()
    has_labels = [
        any(label.get_visible() and label.get_text() for label in ax.get_xticklabels())
        for ax in figure.axes
    ]
    assert has_labels == [False, False, True, True, True, True]
