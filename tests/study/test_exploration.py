# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

pytest.importorskip('galsim')

from astroflux.study import exploration
from astroflux.study.catalogue import (
    COLUMNS,
    MAX_FLUX,
    MIN_FLUX,
    StudySettings,
    draw_catalogue,
)
from astroflux.study.exploration import describe_data, explore
from astroflux.study.exploration_plots import plot_example, plot_flux_histogram, plot_pair

PNG = b'\x89PNG'


def values(results):
    return {row['what']: row['ours'] for row in results['rows']}


@pytest.fixture
def table():
    return draw_catalogue(StudySettings(n_train=80, n_test=20))


@pytest.fixture
def ax():
    return Figure(layout='constrained').subplots()


class TestDescription:
    @pytest.fixture
    def results(self, study_context):
        return describe_data(study_context)

    def test_numbers(self, results, study_context):
        json.dumps(results, allow_nan=False)
        assert {'what', 'published', 'ours'} == set(results['rows'][0])
        ours = values(results)
        assert ours['galaxies, training'] == 30
        assert ours['galaxies, test'] == 12
        assert ours['columns'] == 17
        assert ours['side of an image in pixels'] == 143
        n_checks = len(results['checks'])
        assert ours['checks of the distributions that pass'] == f'{n_checks} of {n_checks}'

    def test_snr(self, results, study_context):
        test = study_context.test
        signal = test.images.astype(float)
        squares = (signal**2).sum((1, 2)) - 0.05**2 * 143**2
        wanted = np.median(np.sqrt(squares)) / 0.05
        assert values(results)['median S/N of the test images'] == pytest.approx(wanted)

    def test_tables(self, results, study_context):
        for name in results['tables']:
            assert (study_context.folder / name).is_file()
        rows = pd.read_csv(study_context.folder / 'training-rows.csv')
        assert list(rows.columns) == ['row', *COLUMNS]
        assert list(rows['row']) == [0, 1, 2, 3, 4, 25, 26, 27, 28, 29]
        wanted = study_context.train.table['total_flux'].iloc[rows['row']]
        np.testing.assert_allclose(rows['total_flux'], wanted)
        notes = pd.read_csv(study_context.folder / 'columns.csv')
        assert list(notes['column']) == list(COLUMNS)
        checks = pd.read_csv(study_context.folder / 'checks.csv')
        assert list(checks['name']) == [check['name'] for check in results['checks']]

    def test_remarks(self, results):
        text = ' '.join(results['remarks'])
        assert '0.7 arcsec FWHM' in text
        assert '0.05 ADU per pixel at zero point 27' in text
        assert '151 pixels on a side and cropped to the middle 143' in text
        assert f'All {len(results["checks"])} checks' in text
        assert 'circle, geometric means 0.3 %' in text

    def test_a_failed_check_is_named(self, study_context, monkeypatch):
        bad = [{'name': 'flat flux', 'wanted': '1', 'found': 2, 'passed': False}]
        monkeypatch.setattr(exploration, 'check_distributions', lambda table: bad)
        results = describe_data(study_context)
        assert results['remarks'][-1] == (
            '0 of 1 checks of the columns pass; these do not: flat flux.'
        )
        assert values(results)['checks of the distributions that pass'] == '0 of 1'

    def test_part_of_the_light(self, study_context):
        train = study_context.train
        # each image holds just 80 % of its light
        whole = train.flux / train.images.sum((1, 2))
        images = 0.8 * train.images * whole[:, None, None]
        inside = exploration._light_inside(replace(train, images=images))
        np.testing.assert_allclose(inside, [0.8, 0.8], rtol=1e-5)

    def test_no_bright_galaxies(self, study_context):
        train = study_context.train
        faint = replace(train, table=train.table.assign(total_flux=10.0))
        assert exploration._light_inside(faint) is None
        assert 'no galaxy' in exploration._light_remark(None)

    def test_faint_galaxies(self):
        remark = exploration._faint_remark
        assert 'within the 0 to 5' in remark(np.array([1.5, 20.0]))
        assert '1 galaxy has less than 1 ADU' in remark(np.array([0.5, 20.0]))
        assert '2 galaxies have less than 1 ADU, and the faintest has 0.25' in remark(
            np.array([0.5, 0.25])
        )


class TestExploration:
    @pytest.fixture
    def results(self, study_context):
        return explore(study_context)

    def test_files(self, results, study_context):
        json.dumps(results, allow_nan=False)
        assert results['figures'] == ['example.png', 'flux.png', 'pairs.png']
        for name in results['figures']:
            assert (study_context.folder / name).read_bytes().startswith(PNG)
        table = pd.read_csv(study_context.folder / results['tables'][0])
        assert len(table) == len(results['rows']) == 8

    def test_numbers(self, results, study_context):
        test = study_context.test.table
        wanted = np.corrcoef(test['Bt'], test['R_e'])[0, 1]
        assert values(results)['correlation of Bt and R_e, test'] == pytest.approx(wanted)
        assert values(results)['skewness of log10 of the flux, test'] < 0

    def test_remarks_follow_the_numbers(self, table):
        tables = {'training': table, 'test': table}

        def remark(r, other):
            return next(exploration._correlation_remarks({('Bt', 'R_e'): [r, other]}, tables))

        assert 'within four standard errors of zero' in remark(0.1, -0.2)
        assert 'in one of the sets more than chance' in remark(0.1, -0.5)
        assert 'to be seen in the plot. Bulges' in remark(-0.6, -0.5)
        turned = table.assign(log_total_flux=-table['log_total_flux'])
        assert 'is not left-skewed' in exploration._skewness_remark({'test': turned})
        assert 'is left-skewed, as published' in exploration._skewness_remark({'test': table})


class TestPlots:
    def test_example(self, ax):
        rng = np.random.default_rng(0)
        image = 0.05 * rng.standard_normal((143, 143))
        image[71, 71] = 250.0
        assert plot_example(ax, image, 0.05, title='a galaxy') is ax
        ax.figure.draw_without_rendering()
        bar = ax.figure.axes[1]
        assert bar.get_ylabel() == 'ADU per pixel (asinh stretch)'
        labels = [label.get_text() for label in bar.get_yticklabels()]
        assert labels == ['0', '1', '10', '100']
        assert ax.get_xlabel() == 'x (pixel)'
        np.testing.assert_array_equal(ax.images[0].get_array(), image)

    @pytest.mark.parametrize('column', ['total_flux', 'log_total_flux'])
    def test_histogram(self, ax, table, column):
        assert plot_flux_histogram(ax, table, column, 'test') is ax
        found = sum(patch.get_height() for patch in ax.containers[0])
        assert found == len(table)
        # a flat flux fills the bins with as many galaxies
        expected = ax.patches[-1].get_data().values
        low = MIN_FLUX if column == 'total_flux' else table['total_flux'].min()
        share = (MAX_FLUX - low) / (MAX_FLUX - MIN_FLUX)
        assert expected.sum() == pytest.approx(len(table) * share)
        assert 'ADU' in ax.get_xlabel()

    def test_pair(self, ax, table):
        assert plot_pair(ax, table, 'Bt', 'total_flux', 'training') is ax
        points = ax.collections[0].get_offsets()
        np.testing.assert_array_equal(points, table[['Bt', 'total_flux']])
        r = np.corrcoef(table['Bt'], table['total_flux'])[0, 1]
        assert ax.get_title() == f'training set: r = {r:+.3f}'
        assert ax.get_ylabel() == 'total flux (ADU)'
