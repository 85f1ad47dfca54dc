# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Galaxies put into a simulated field, as in ``docs/injection.rst``.

    python docs/examples/injection.py

runs the code of that page in a temporary folder, and draws its figure from what comes out.
"""

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from astroflux.evaluation import PARAMETERS
from astroflux.evaluation.comparison_plots import method_styles, plot_binned_statistic
from astroflux.evaluation.plots import plot_cutout
from astroflux.evaluation.summary import summarize_comparison

TOP = Path(__file__).parents[2]
PAGE = TOP / 'docs' / 'injection.rst'
FIGURE = TOP / 'docs' / 'images' / 'injection.png'


def code(path=PAGE):
    """Return the first example of the page."""
    text = re.search(r'code-block:: python\n\n((?: +.*\n|\n)+)', path.read_text())[1]
    return re.sub(r'^   ', '', text, flags=re.MULTILINE)


def draw(result):
    """Return a figure of the field before and after, of bias and of coverage."""
    figure = Figure(figsize=(10, 9), layout='constrained')
    (before, after), (bias, coverage) = figure.subplots(2, 2)
    field = result.first_round
    limit = np.percentile(field.after, 99.7)
    for ax, image, title in ((before, field.before, 'before'), (after, field.after, 'after')):
        plot_cutout(ax, np.minimum(image, limit), field.noise, title=title)
    for x, y in field.places:
        after.plot(x, y, 'o', markersize=14, markerfacecolor='none', markeredgecolor='tab:orange')
    comparison = result.comparison
    styles = method_styles(comparison.labels)
    summary = summarize_comparison(comparison)
    plot_binned_statistic(bias, summary, 'bias', PARAMETERS['snr'], styles)
    bias.axhline(0, color='0.45')
    plot_binned_statistic(coverage, summary, 'coverage_68', PARAMETERS['snr'], styles)
    coverage.axhline(68.27, color='0.45')
    coverage.set_ylim(0, 103)
    return figure


def main():
    """Run the example and draw the figure."""
    # the script beside this one
    from fields import blocks

    make_field, _ = blocks()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(make_field, {})
        scope = {}
        exec(code(), scope)
    draw(scope['result']).savefig(FIGURE, dpi=80)


if __name__ == '__main__':
    main()
