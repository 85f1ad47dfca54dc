# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The galaxy-flux study of 2024, reproduced in full and set beside the estimators of today.

Each stage is a function that takes a `~astroflux.study.run.Context`, writes into its folder and
returns a `dict`:

- ``rows``: what is compared, a list of ``what``, ``published`` and ``ours``;
- ``tables``, ``figures``: names of the files that it wrote, CSV and PNG;
- anything else: numbers that later stages, the page or tests read, by names of the stage's own.
"""
