# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Show how far long work is: a bar for who looks on, a line now and then for a log."""

import sys
import warnings
from functools import cache

__all__ = ['progress_bar']

# seconds before a bar appears by itself
DELAY = 2.0

# seconds between the lines in a log, and before the first one
LOG_INTERVAL = 30.0

LOG_FORMAT = '{desc}: {n_fmt}/{total_fmt}, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}'


def progress_bar(iterable=None, *, progress=None, **options):
    """
    Return a `tqdm.tqdm` that shows how far long work is.

    On a terminal and in a notebook it is a bar, which goes when the work is done. Elsewhere, as
    in a log, it writes a line every half minute at most, and one at the end.

    Parameters
    ----------
    iterable : iterable, optional
        What to go through; without it, ``update`` is to be called.
    progress : bool, optional
        Whether to show anything. By default a bar appears after two seconds, and a line after
        half a minute.
    **options
        Those of `tqdm.tqdm`: ``desc``, ``total``, ``unit`` and so on.
    """
    delay = DELAY
    if (bar := _notebook_bar()) is not None:
        options['display'] = False
    elif sys.stderr.isatty():
        from tqdm import tqdm as bar
    else:
        bar, delay = _lines(), LOG_INTERVAL
        options |= {'bar_format': LOG_FORMAT, 'mininterval': LOG_INTERVAL, 'miniters': 1}
    options |= {'disable': progress is False, 'delay': delay if progress is None else 0}
    return bar(iterable, leave=False, **options)


# tqdm is imported below, as most calls of the package are too short for it


@cache
def _lines():
    """A bar that writes lines."""
    from tqdm import tqdm

    class Lines(tqdm):
        def display(self, msg=None, pos=None):
            # the last call, at the end, may have nothing new
            if self.n != getattr(self, 'written', self.initial):
                self.written = self.n
                self.fp.write(f'{self}\n')

    return Lines


@cache
def _notebook_bar():
    """The bar of a notebook, or `None` where there is none."""
    with warnings.catch_warnings():
        # that ipywidgets are missing; who did not ask for a bar need not know
        warnings.simplefilter('ignore')
        from tqdm.auto import notebook_tqdm, std_tqdm
    return None if notebook_tqdm is std_tqdm else _that_goes(notebook_tqdm)


def _that_goes(notebook_tqdm):
    """The bar of a notebook, but one that leaves nothing to save and export with it."""
    from IPython.display import display

    class NotebookBar(notebook_tqdm):
        def display(self, *args, check_delay=True, **signals):
            super().display(*args, check_delay=False, **signals)
            if check_delay and not self.displayed:
                self.displayed = True
                self.place = display(self.container, display_id=True)

        def close(self):
            super().close()
            if hasattr(self, 'place'):
                self.place.update({'text/plain': ''}, raw=True)

    return NotebookBar
