# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from astroflux.study import components as module
from astroflux.study.components import (
    component_columns,
    components,
    decompose,
    distinct_columns,
)
from astroflux.study.dataset import StudySettings, draw_catalogue

N_TRAIN, N_TEST = 1500, 500


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture(scope='module')
def catalogue():
    pytest.importorskip('galsim')
    return draw_catalogue(StudySettings(n_train=N_TRAIN, n_test=N_TEST, seed=9))


def make_context(table, folder):
    def part(rows):
        rows = rows.reset_index(drop=True)
        return SimpleNamespace(table=rows, log_flux=np.log10(rows['total_flux'].to_numpy()))

    return SimpleNamespace(train=part(table[:N_TRAIN]), test=part(table[N_TRAIN:]), folder=folder)


@pytest.fixture(scope='module')
def run(catalogue, tmp_path_factory):
    context = make_context(catalogue, tmp_path_factory.mktemp('components'))
    return components(context), context.folder


def test_columns_vary_and_know_nothing_of_the_flux(catalogue):
    names = component_columns(catalogue)
    assert len(names) == 12
    left_out = {*catalogue.columns} - {*names}
    assert left_out == {
        'img_number',
        'num_components',
        'total_flux',
        'log_total_flux',
        'file_name',
    }


def test_distinct_columns(rng):
    first, second = rng.normal(size=(2, 100))
    assert distinct_columns(np.stack([first, second, 1 - 3 * first, second], axis=1)) == [0, 1]


def test_decomposition_counts_what_is_no_chance(rng):
    latent = rng.normal(size=(2000, 2))
    values = np.repeat(latent, 4, axis=1) + rng.normal(size=(2000, 8))
    pca, scree, n_kept = decompose(StandardScaler().fit_transform(values), rng)
    assert n_kept == 2
    assert scree['eigenvalue'].sum() == pytest.approx(8, rel=1e-3)
    assert scree['cumulative'].iloc[-1] == pytest.approx(1)
    # four columns of correlation 1/2: one large eigenvalue of 2.5, the others 0.5
    assert scree['eigenvalue'][:2].to_numpy() == pytest.approx(2.5, rel=0.1)
    assert scree['eigenvalue'][2:].to_numpy() == pytest.approx(0.5, rel=0.2)
    assert pca.components_.shape == (8, 8)


def test_stage_finds_what_the_columns_share(run):
    result, folder = run
    json.dumps(result, allow_nan=False)
    # two fractions follow from Bt
    assert (result['n_columns'], result['n_free']) == (12, 10)
    # the fractions, the angles, the radii
    assert result['n_components'] == 3
    loadings = pd.read_csv(folder / 'components_loadings.csv').set_index('column')
    # all components together explain each column fully
    assert (loadings**2).sum(axis=1).to_numpy() == pytest.approx(1, rel=1e-3)
    factors = pd.read_csv(folder / 'components_factors.csv').set_index('column')
    assert not {'flux_frac_b', 'Bt'} & {*factors.index}
    angles = factors.loc['PA_d'].abs().idxmax()
    assert factors.loc[['PA_d', 'PA_b'], angles].to_numpy() == pytest.approx(1, abs=0.05)
    assert result['uniqueness']['sersic_idx_d'] > 0.9
    for name in result['figures']:
        assert (folder / name).read_bytes().startswith(b'\x89PNG')


def test_components_of_the_study_do_not_predict_the_flux(run):
    result, folder = run
    predicted = pd.read_csv(folder / 'components_flux.csv')
    assert len(predicted) == result['n_free'] + result['n_factors']
    full = predicted[predicted['n_components'] == result['n_free']].iloc[0]
    assert full['shuffled_low'] < full['r2'] < 0.02
    assert full['cross_validated_r2'] < 0.01
    assert full['p_value'] > 0.003
    assert result['rows'][0]['ours'] == pytest.approx(full['r2'])
    assert sum('do not predict' in remark for remark in result['remarks']) == 2


def test_components_that_predict_are_found(catalogue, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(module, 'N_FOLDS', 2)
    log_flux = catalogue['log_total_flux']
    table = catalogue.assign(
        sersic_idx_d=log_flux + rng.normal(0, 0.1, len(log_flux)),
        sersic_idx_b=log_flux + rng.normal(0, 0.1, len(log_flux)),
    )
    result = components(make_context(table, tmp_path))
    assert all(row['ours'] > 0.9 for row in result['rows'])
    assert sum(' predict the flux' in remark for remark in result['remarks']) == 2
    assert not any('do not predict' in remark for remark in result['remarks'])
