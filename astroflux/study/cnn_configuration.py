# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How the networks of the study are trained."""

import math
from dataclasses import dataclass, replace

__all__ = ['CONFIGURATIONS', 'CNNConfiguration']


@dataclass(frozen=True)
class CNNConfiguration:
    """
    How a network of the study is trained.

    Attributes
    ----------
    name : str
        Name of the training and of its folder.
    learning_rate : float
        Of Adam; its other parameters are the usual ones.
    epochs : int
        Passes over the training set.
    seed : int
        Of the initial weights, of the order of images and of the dropout.
    batch_size : int
        Images per step. The report does not state it.
    dropout : float
        Share of neurons left out.
    scale, stretch
        What the pixels pass through; see `~astroflux.networks.study_net.StudyNet`.
    noise_factor : float
        Noise of the images, in units of that of the data set. What is added is the same in each
        epoch.
    columns : tuple of str
        Columns of the table that join the image.
    """

    name: str
    learning_rate: float
    epochs: int
    seed: int
    batch_size: int = 64
    dropout: float = 0.2
    scale: float = 1.0
    stretch: str = 'linear'
    noise_factor: float = 1.0
    columns: tuple[str, ...] = ()

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 1:
            msg = (
                f'epochs and batch_size must be at least 1, got {self.epochs} and '
                f'{self.batch_size} for {self.name!r}'
            )
            raise ValueError(msg)
        if not 1 <= self.noise_factor < math.inf:
            msg = f'noise_factor must be at least 1, got {self.noise_factor} for {self.name!r}'
            raise ValueError(msg)

    def cut(self, max_epochs):
        """Return the same with no more than so many epochs; `None` for no limit."""
        return self if max_epochs is None else replace(self, epochs=min(self.epochs, max_epochs))


# The three trainings of the report. With the same seed the third would begin as the second.
CONFIGURATIONS = (
    CNNConfiguration('cnn-1', 0.01, 7, seed=1),
    CNNConfiguration('cnn-2', 0.001, 10, seed=2),
    CNNConfiguration('cnn-3', 0.001, 15, seed=3),
)
