# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the data of the study are: the report's section 3.1, its choices, and its first figures."""

import numpy as np
import pandas as pd
from scipy import stats

from astroflux.study._output import comparison_row, save_figure, write_table
from astroflux.study.catalogue import SERSIC_INDEX_STEP, column_notes
from astroflux.study.dataset import read_settings
from astroflux.study.distributions import check_distributions, correlation
from astroflux.study.exploration_plots import example_figure, flux_figure, pair_figure
from astroflux.study.radii import READINGS, published_radii

__all__ = ['describe_data', 'explore']

# What the report says of its sets.
PUBLISHED_SIZES = {'training': 30_000, 'test': 10_000}
PUBLISHED_COLUMNS = 17
PUBLISHED_SIDE = 143
PUBLISHED_PAIRS = (('Bt', 'total_flux'), ('R_e', 'total_flux'), ('Bt', 'R_e'))

# In ADU. Of fainter galaxies the noise would blur the part of the light that an image holds.
BRIGHT = 3000.0

# Of a correlation in a scatter plot, roughly where the eye begins to see it.
VISIBLE_CORRELATION = 0.1


def describe_data(context):
    """
    Describe the data set: its size, rows, units, and whether it is distributed as published.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What every stage is given.

    Returns
    -------
    results : dict
        ``rows``, ``remarks``, ``tables``, ``figures``; ``checks`` (of both sets together, see
        `~astroflux.study.distributions.check_distributions`) and ``radii``, those of the galaxies
        that the report prints.
    """
    sets = {'training': context.train, 'test': context.test}
    table = pd.concat([part.table for part in sets.values()], ignore_index=True)
    checks, radii = check_distributions(table), published_radii()
    inside, snr = _light_inside(context.test), _snr(context.test)
    rows = [
        comparison_row(f'galaxies, {k}', PUBLISHED_SIZES[k], len(part)) for k, part in sets.items()
    ]
    rows += [
        comparison_row('columns', PUBLISHED_COLUMNS, len(table.columns)),
        comparison_row('side of an image in pixels', PUBLISHED_SIDE, context.train.images.shape[1]),
        comparison_row('total flux in ADU', '0 to 30,000', _span(table['total_flux'], ',.1f')),
        comparison_row('log10 of the flux', '0 to 5', _span(table['log_total_flux'], '.2f')),
        comparison_row('median S/N of the test images', None, float(np.median(snr))),
        comparison_row(
            'median of the light inside a test image, percent', None, inside and 100 * inside[0]
        ),
        comparison_row('checks of the distributions that pass', None, _passed_text(checks)),
    ]
    return {
        'rows': rows,
        'remarks': [
            *_choices(read_settings(context.data), context.train),
            _radii_remark(radii),
            _light_remark(inside),
            _faint_remark(table['total_flux']),
            _checks_remark(checks),
        ],
        'tables': _write_tables(context, checks, radii),
        'figures': [],
        'checks': checks,
        'radii': radii.to_dict('records'),
    }


def explore(context):
    """
    Draw the report's figures 2 to 4: an image, the flux and its logarithm, and pairs of columns.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What every stage is given.

    Returns
    -------
    results : dict
        ``rows``, ``remarks``, ``tables`` and ``figures``.
    """
    sets = {'training': context.train, 'test': context.test}
    tables = {name: part.table for name, part in sets.items()}
    figures = {
        'example.png': _example(context.train),
        'flux.png': flux_figure(tables),
        'pairs.png': pair_figure(tables),
    }
    for name, figure in figures.items():
        save_figure(figure, context.folder / name)
    rows, correlations = [], {}
    for name, table in tables.items():
        skewness = float(stats.skew(table['log_total_flux']))
        rows.append(
            comparison_row(f'skewness of log10 of the flux, {name}', 'left-skewed', skewness)
        )
        for x, y in PUBLISHED_PAIRS:
            found = correlation(table[x], table[y])
            correlations.setdefault((x, y), []).append(found)
            rows.append(
                comparison_row(f'correlation of {x} and {y}, {name}', 'no clear correlation', found)
            )
    return {
        'rows': rows,
        'remarks': [_skewness_remark(tables), *_correlation_remarks(correlations, tables)],
        'tables': [write_table(pd.DataFrame(rows), context.folder / 'correlations.csv')],
        'figures': list(figures),
    }


def _span(values, form):
    return f'{values.min():{form}} to {values.max():{form}}'


def _passed_text(checks):
    return f'{sum(check["passed"] for check in checks)} of {len(checks)}'


def _write_tables(context, checks, radii):
    """Write the tables of the description; return their names."""
    table = context.train.table
    shown = pd.concat([table.head(5), table.tail(5)]) if len(table) > 10 else table
    as_text = pd.DataFrame(checks)
    as_text['found'] = [_found_text(found) for found in as_text['found']]
    as_text['passed'] = as_text['passed'].map({True: 'yes', False: 'no'})
    tables = {
        'training-rows.csv': shown.round(6).reset_index(names='row'),
        'columns.csv': column_notes(),
        'checks.csv': as_text,
        'published-radii.csv': radii.round(4),
    }
    return [write_table(content, context.folder / name) for name, content in tables.items()]


def _found_text(found):
    if isinstance(found, list):
        return ' to '.join(f'{value:.6g}' for value in found)
    return f'{found:.4g}'


def _snr(study_set):
    """Signal-to-noise ratio of each image as a whole, from the image less its noise."""
    # float32 sums of 20,000 squares would do, but not of the brightest pixels
    power = np.array([np.square(image, dtype=float).sum() for image in study_set.images])
    of_noise = study_set.noise**2 * study_set.images[0].size
    return np.sqrt(np.maximum(power - of_noise, 0)) / study_set.noise


def _light_inside(study_set):
    """Median and smallest part of the light of bright galaxies that their images hold."""
    bright = np.flatnonzero(study_set.flux >= BRIGHT)
    if not bright.size:
        return None
    seen = np.array([study_set.images[row].sum(dtype=float) for row in bright])
    parts = seen / study_set.flux[bright]
    return [float(np.median(parts)), float(np.min(parts))]


def _light_remark(inside):
    if inside is None:
        return f'The test set has no galaxy brighter than {BRIGHT:,.0f} ADU.'
    return (
        f'Of the light of a galaxy brighter than {BRIGHT:,.0f} ADU its test image holds '
        f'{100 * inside[0]:.1f} % in the median and {100 * inside[1]:.1f} % at the least: the '
        'wings of the bulges reach beyond it. The total flux is that out to infinity.'
    )


def _faint_remark(flux):
    """Say how many galaxies are fainter than the report's range of the logarithm allows."""
    n_faint = int((flux < 1).sum())
    smallest = f'the faintest has {flux.min():.3g} ADU'
    if not n_faint:
        return f'The logarithm of the flux is within the 0 to 5 of the report: {smallest}.'
    verb = 'galaxy has' if n_faint == 1 else 'galaxies have'
    return (
        'The report gives 0 to 5 as the range of the logarithm. A flux spread evenly from zero '
        f'goes below: {n_faint} {verb} less than 1 ADU, and {smallest}.'
    )


def _choices(settings, train):
    """Sentences on what the report leaves open, and what was chosen."""
    yield (
        f'The report does not state the PSF. Here it is one round Kolmogorov profile of '
        f'{settings.psf_fwhm:g} arcsec FWHM for all images, at {train.pixel_scale:g} arcsec per '
        f'pixel. The noise is Gaussian with {train.noise:g} ADU per pixel at zero point '
        f'{train.zeropoint:g}; the photons of the galaxy add none, and there are no neighbours.'
    )
    yield (
        f'Images are drawn with {settings.image_size} pixels on a side and cropped to the middle '
        f'{train.images.shape[1]}. The centre of a galaxy is anywhere within half a pixel of the '
        "image's centre, per axis."
    )
    yield (
        'Ranges were read off the ten rows that the report shows. Values are spread evenly over '
        'them and rounded to three decimals, as the report prints them. Sersic indices are '
        f'multiples of {SERSIC_INDEX_STEP:g}, so that each is tabulated only once. Flux fractions '
        'stop at 0.001 and 0.999, so that there are always two components.'
    )
    yield (
        'The position angle of a bulge is not wrapped into -90 to 90 deg: its difference from that '
        'of the disc is the angle between the two.'
    )


def _radii_remark(radii):
    """Say which reading of R_e fits the report's rows, and that it is the one used."""
    misfit = {
        name: 100 * (radii[name] / radii['published'] - 1).abs().median() for name in READINGS
    }
    best = min(misfit, key=misfit.get)
    listed = '; '.join(f'{name} {value:.1f} %' for name, value in misfit.items())
    verdict = (
        'The first is what the table of this data set holds, and the closest.'
        if best == READINGS[0]
        else f'The first is what the table of this data set holds; the closest is: {best}.'
    )
    return (
        'The report does not define R_e. For its ten rows, the median difference from the printed '
        f'R_e is, by how the radii are read: {listed}. {verdict}'
    )


def _checks_remark(checks):
    failed = [check['name'] for check in checks if not check['passed']]
    if not failed:
        return (
            f'All {len(checks)} checks of the table pass, against what it was meant to be: ranges '
            'and relations as they were read off the report.'
        )
    return f'{_passed_text(checks)} checks of the columns pass; these do not: {", ".join(failed)}.'


def _example(train):
    """Figure of the galaxy that is closest to the median in flux and radius."""
    ranks = train.table[['total_flux', 'R_e']].rank(pct=True)
    row = int(((ranks - 0.5) ** 2).sum(axis=1).to_numpy().argmin())
    galaxy = train.table.iloc[row]
    title = (
        f'{galaxy["file_name"]}: {galaxy["total_flux"]:,.0f} ADU, $R_e$ = {galaxy["R_e"]:.2f} '
        f'arcsec, $B/T$ = {galaxy["Bt"]:.2f}'
    )
    return example_figure(train.images[row], train.noise, title=title)


def _skewness_remark(tables):
    found = {name: stats.skew(table['log_total_flux']) for name, table in tables.items()}
    text = ' and '.join(f'{value:.2f} in the {name} set' for name, value in found.items())
    verdict = 'left-skewed, as published' if max(found.values()) < 0 else 'not left-skewed'
    return (
        f'The logarithm of the flux is {verdict}: its skewness is {text}. For a flux that is '
        'spread evenly from zero it is -2.'
    )


def _correlation_remarks(correlations, tables):
    """One sentence per pair, by how far its correlation is from chance."""
    chance = [4 / np.sqrt(len(table)) for table in tables.values()]
    for (x, y), found in correlations.items():
        text = ' and '.join(
            f'{value:+.3f} ({name})' for value, name in zip(found, tables, strict=True)
        )
        beyond = [abs(r) > limit for r, limit in zip(found, chance, strict=True)]
        if not any(beyond):
            verdict = 'within four standard errors of zero'
        elif not all(beyond):
            verdict = 'in one of the sets more than chance gives, in the other not'
        elif min(abs(r) for r in found) < VISIBLE_CORRELATION:
            verdict = 'more than chance gives, but too little to see in a scatter plot'
        else:
            verdict = 'more than chance gives, and to be seen in the plot'
        falls = all(beyond) and max(found) < 0
        yield f'{x} and {y}: the correlation is {text}, {verdict}.{_why(x, y, falls)}'


def _why(x, y, falls):
    if (x, y) == ('Bt', 'R_e') and falls:
        return ' Bulges are drawn from smaller radii than discs, so more bulge is a smaller R_e.'
    return ''
