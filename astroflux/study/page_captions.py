# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Captions of the figures and tables of the study, and how its tables are shown."""

from dataclasses import dataclass, field

__all__ = ['FIGURES', 'NOT_SHOWN', 'TABLES', 'TablePlan']


@dataclass(frozen=True)
class TablePlan:
    """
    How a table is shown.

    Attributes
    ----------
    caption : str
        Of the table.
    columns : tuple of str
        Which, in their order; by default all.
    titles : dict of str to str
        Heads of columns that are not named as elsewhere on the page.
    percent : tuple of str
        Columns of fractions, which are shown in percent.
    decimals : int, optional
        Of all numbers that are not whole; by default they have four digits.
    as_written : bool
        Whether to show names and numbers as they are in the file.
    """

    caption: str
    columns: tuple[str, ...] = ()
    titles: dict[str, str] = field(default_factory=dict)
    percent: tuple[str, ...] = ()
    decimals: int | None = None
    as_written: bool = False


# Name of a figure's file -> caption, and what someone reads who does not see it.
FIGURES = {
    'example.png': (
        'A training image, whose flux and radius are close to the median.',
        'A cutout with one galaxy in its middle, brightest in the core, on a grey scale.',
    ),
    'flux.png': (
        'The fluxes of both sets before and after the logarithm.',
        'Histograms of the flux and of its logarithm, with lines for a flux spread evenly.',
    ),
    'pairs.png': (
        'Pairs of total flux, bulge-to-total ratio and half-light radius in both sets.',
        'Six scatter plots: three pairs of columns for the training set and for the test set.',
    ),
    'linear.png': (
        'What the two linear regressions predict, against the truth.',
        'Two scatter plots of predicted against actual log flux.',
    ),
    'linear_information.png': (
        'Mutual information of each column with the flux, and with shuffled fluxes.',
        'A bar for each column beside what shuffled fluxes give.',
    ),
    'logistic_confusion.png': (
        'Confusion matrix of the logistic regression.',
        'A matrix of three by three counts: actual against predicted class.',
    ),
    'forest_confusion.png': (
        'Confusion matrix of the random forest.',
        'A matrix of three by three counts: actual against predicted class.',
    ),
    'forest_regressor.png': (
        'What the forest of regression trees predicts, against the truth.',
        'A scatter plot of predicted against actual log flux.',
    ),
    'architecture.png': (
        'The network as a flowchart: shape of what leaves each layer, and its parameters.',
        'Boxes from the image through convolutions, pooling and dense layers to the log flux.',
    ),
    'losses.png': (
        'Train and test loss after each epoch, and the published losses after the last.',
        'A panel for each network, with a line for the train loss and one for the test loss.',
    ),
    **{
        f'differences-cnn-{number}.png': (
            f'How often CNN {number} is off by how much; the last bin holds all that is more.',
            'A histogram of absolute differences with a line at their median.',
        )
        for number in (1, 2, 3)
    },
    'predictions.png': (
        'What the networks predict, against the truth.',
        'A scatter plot of predicted against actual log flux for each network.',
    ),
    'seeds.png': (
        'Test loss after each epoch with other seeds: the first configuration and the third.',
        'A panel for each configuration with a line for each seed.',
    ),
    'variants.png': (
        'Test loss of the second configuration with other seeds, inputs and noise.',
        'A line for each training, loss against epoch.',
    ),
    'joined.png': (
        'Test losses of networks that see columns beside the image, and of their twins.',
        'A point for each seed, in a column for each kind of network.',
    ),
    'components_scree.png': (
        'Variance of each principal component, and what shuffled columns have.',
        'Two lines, of the table and of shuffled columns: eigenvalues against the component.',
    ),
    'components_loadings.png': (
        'Loadings of the columns on the principal components and the factors.',
        'Two matrices of colours, columns of the table against components.',
    ),
    'components_flux.png': (
        'Whether the components predict the flux: R2 against their number.',
        'Lines of R2 with bands of what shuffled fluxes give.',
    ),
    'accuracy_bt.png': (
        'Bias and scatter of ln flux by bulge-to-total ratio.',
        'Points with error bars for each method in bins, and the bound as a line.',
    ),
    'accuracy_r_e.png': (
        'Bias and scatter of ln flux by half-light radius.',
        'Points with error bars for each method in bins, and the bound as a line.',
    ),
    'accuracy_cost.png': (
        'Accuracy against speed of networks and light-profile fits.',
        'A point for each method: error of the flux against cutouts per second.',
    ),
    'today_residuals.png': (
        'Errors of the flux of each method against the true flux; failures are crosses.',
        'A panel for each method with a point for each test image.',
    ),
    'today_scatter.png': (
        'Scatter of each method against the true flux, and the information bound.',
        'A line for each method, and a thick one for the bound, below which none can stay.',
    ),
}

# Errors of ln flux in bins.
BINNED = ('completeness', 'bias', 'scatter', 'rms', 'outliers', 'bound')
BINNED_TITLES = {name: f'{name} [%]' for name in BINNED} | {
    'outliers': 'beyond 30 % [%]',
    'bound': 'scatter at the bound [%]',
}
BEYOND = ('beyond_10', 'beyond_30')

LOSSES_COLUMNS = (
    *('name', 'learning_rate', 'epochs', 'published_train_loss', 'train_loss'),
    *('published_test_loss', 'test_loss', 'train_loss_dropout_on', 'train_loss_dropout_off'),
    *('constant_share', 'median_difference', 'within_narrow', 'within_wide', 'faint_share'),
    'seconds',
)
LOSSES_TITLES = {
    'published_train_loss': 'train loss, published [dex²]',
    'published_test_loss': 'test loss, published [dex²]',
    'train_loss_dropout_on': 'train loss, final weights, dropout on [dex²]',
    'train_loss_dropout_off': 'train loss, final weights, dropout off [dex²]',
    'constant_share': 'equal predictions [%]',
    'median_difference': 'median difference [dex]',
    'within_narrow': 'within 0.1 dex [%]',
    'within_wide': 'within 0.3 dex [%]',
    'faint_share': 'part of the faintest tenth in the test loss [%]',
    'seconds': 'training [s]',
}
LOSSES_PERCENT = ('constant_share', 'within_narrow', 'within_wide', 'faint_share')

SEEDS_TITLES = {
    'constant_share': 'equal predictions [%]',
    'constant': 'constant',
    'constant_value': 'median prediction',
}
SEEDS_PERCENT = ('constant_share',)

# Name of a table's file -> how it is shown.
TABLES = {
    'training-rows.csv': TablePlan(
        'The first and the last rows of the training set', as_written=True
    ),
    'columns.csv': TablePlan('The columns and their units', as_written=True),
    'checks.csv': TablePlan('Whether the columns are distributed as described', as_written=True),
    'published-radii.csv': TablePlan(
        'R_e of the rows that the report prints, by how radii are read [arcsec]', decimals=4
    ),
    'linear.csv': TablePlan('The linear regressions on the test set'),
    'linear_information.csv': TablePlan(
        'Mutual information of each column with log10 flux', decimals=4
    ),
    'logistic_report.csv': TablePlan('Classification report of the logistic regression'),
    'logistic_confusion.csv': TablePlan('Confusion matrix of the logistic regression'),
    'forest_report.csv': TablePlan('Classification report of the random forest'),
    'forest_confusion.csv': TablePlan('Confusion matrix of the random forest'),
    'forest_regressor.csv': TablePlan('The forest of regression trees on the test set'),
    'architecture.csv': TablePlan('The layers of the network'),
    'losses.csv': TablePlan(
        'The three trainings',
        columns=LOSSES_COLUMNS,
        titles=LOSSES_TITLES,
        percent=LOSSES_PERCENT,
    ),
    **{
        f'samples-cnn-{number}{end}.csv': TablePlan(f'Ten test images, CNN {number}, {words}')
        for number in (1, 2, 3)
        for end, words in (('', 'ours'), ('-published', 'as published'))
    },
    'first-seeds.csv': TablePlan(
        'The first configuration with other seeds', titles=SEEDS_TITLES, percent=SEEDS_PERCENT
    ),
    'third-seeds.csv': TablePlan(
        'The third configuration with another seed', titles=SEEDS_TITLES, percent=SEEDS_PERCENT
    ),
    'second-variants.csv': TablePlan('The second configuration, varied', titles={'what': 'varied'}),
    'dropout.csv': TablePlan(
        'Losses with dropout and without, at the same weights', titles=LOSSES_TITLES
    ),
    'joined.csv': TablePlan('Networks that see columns beside the image, and those that do not'),
    'components_scree.csv': TablePlan(
        'Variance of the principal components',
        titles={'shuffled': 'eigenvalue, shuffled columns', 'cumulative': 'sum of variance [%]'},
        percent=('cumulative',),
        decimals=3,
    ),
    'components_loadings.csv': TablePlan('Loadings of the principal components', decimals=2),
    'components_factors.csv': TablePlan('Loadings of the factors', decimals=2),
    'components_flux.csv': TablePlan(
        'Regressions of log10 flux on the first components',
        titles={
            'n_components': 'components',
            'r2': 'R2, test set',
            'cross_validated_r2': 'R2, cross-validated',
            'shuffled_low': '2.5 % of R2, shuffled fluxes',
            'shuffled_high': '97.5 % of R2, shuffled fluxes',
        },
        decimals=4,
    ),
    'accuracy_bt.csv': TablePlan(
        'Errors of ln flux by bulge-to-total ratio', titles=BINNED_TITLES, percent=BINNED
    ),
    'accuracy_r_e.csv': TablePlan(
        'Errors of ln flux by half-light radius [arcsec]', titles=BINNED_TITLES, percent=BINNED
    ),
    'accuracy_cost.csv': TablePlan(
        'Cost and accuracy on the same images, on one core',
        titles={
            'n': 'images',
            'milliseconds': 'time per image [ms]',
            'per_second': 'images per second',
            'speed_over_fit': 'times as fast as the slowest fit',
            'median_percent': 'median error [%]',
            'largest_percent': 'largest error [%]',
        },
    ),
    'today.csv': TablePlan('All methods on all test images', percent=BEYOND),
    'today_goal.csv': TablePlan(
        'What is wanted of the network that ships, and what is possible',
        titles={
            'galaxies': 'which',
            'mse_met': 'MSE as wanted',
            'share_met': 'share beyond 10 % as wanted',
        },
        percent=BEYOND,
    ),
    'today_by_flux.csv': TablePlan('All methods, by true flux [ADU]', percent=BEYOND),
    'today_by_snr.csv': TablePlan('All methods, by S/N', percent=BEYOND),
}

# They repeat what stands on the page already, or have a row for each image.
NOT_SHOWN = ('correlations.csv', 'accuracy_fits.csv')
