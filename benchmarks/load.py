# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Memory of a long stream and of many calls, and what one call consists of.

    python benchmarks/load.py -n 1000000 --write

measures so many small cutouts, which a generator makes as they are asked for, in one call; the same
cutout in many calls; and the steps of one call, for each of a few methods. What a table itself
needs grows with its rows, and is told beside the memory of the process.
"""

import gc
import os
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from report import command_line, put_out, rst_table
from tqdm import tqdm

from astroflux._work import use_one_thread
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator
from astroflux.evaluation._numbers import grouped_text
from astroflux.simulation import simulate_cutouts

SEED = 90181
SIDE = 24
MEGABYTE = 1024**2
METHODS = ('cnn', 'aperture', 'kron', 'growth', 'sep')
LATENCY_CALLS = 30


def resident():
    """Return the memory of this process in megabytes."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / MEGABYTE


# -- a long stream --------------------------------------------------------------------------------


def stamps(n):
    """Yield so many small stamps, each with its own noise."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shape = np.exp(-(x**2 + y**2) / 8)
    psf = shape / shape.sum()
    noise = StdDevUncertainty(np.ones((SIDE, SIDE)))
    for flux in rng.uniform(100, 1000, n):
        yield NDData(rng.normal(flux * psf, 1.0), noise, psf=psf)


def watched(stream, n, memory):
    """Yield from a stream, and keep the memory of the process at a hundred places."""
    step = max(n // 100, 1)
    for index, item in enumerate(tqdm(stream, total=n)):
        if index % step == 0:
            memory.append((index, resident()))
        yield item


def stream_rows(method, n):
    """Measure a stream, and return a row of what memory it took."""
    estimator, memory = make_estimator(method), []
    estimator.measure(list(stamps(300)), progress=False)  # weights load, caches fill
    start = time.perf_counter()
    table = estimator.measure(watched(stamps(n), n, memory), progress=False)
    seconds = time.perf_counter() - start
    assert len(table) == n, 'a row was lost'
    own = sum(table[name].nbytes for name in table.colnames) / n
    # behind the first tenth, as a line: what is taken once does not count
    late = [each for each in memory if each[0] >= n / 10]
    slope = np.polyfit(*np.transpose(late), 1)[0] * MEGABYTE
    return [
        KNOWN_METHODS[method].label,
        f'{n:,}',
        f'{n / seconds:,.0f}',
        f'{late[0][1]:,.0f}',
        f'{memory[-1][1]:,.0f}',
        f'{slope:,.0f}',
        f'{own:,.0f}',
    ]


# -- many calls -----------------------------------------------------------------------------------


def repeat_rows(method, n):
    """Measure one cutout in many calls, and return a row of what was left behind."""
    estimator, (stamp,) = make_estimator(method), stamps(1)

    def state():
        gc.collect()
        return resident(), len(gc.get_objects()), len(os.listdir('/proc/self/fd'))

    first = n // 10
    for _ in tqdm(range(first), desc=method):
        estimator.predict(stamp, progress=False)
    before = state()
    for _ in tqdm(range(n - first), desc=method):
        estimator.predict(stamp, progress=False)
    after = state()
    changes = np.subtract(after, before)
    return [
        KNOWN_METHODS[method].label,
        f'{n:,}',
        f'{changes[0]:+.1f}',
        f'{changes[1]:+.0f}',
        f'{changes[2]:+.0f}',
    ]


# -- one call -------------------------------------------------------------------------------------

# What happens in a call: functions by the module that uses them. Those within another one are
# taken off it.
STEPS = {
    'cutout': [('astroflux.estimators.base', 'iter_cutouts')],
    'canvas': [('astroflux.estimators._measurement', 'Canvases')],
    'network': [('astroflux.estimators._measurement', 'Answer.of')],
}


@contextmanager
def timed(times):
    """Add the time of each step to what it is in a dict, as long as the block lasts."""
    undone = []
    for name, places in STEPS.items():
        for module, path in places:
            owner = import_module(module)
            *owners, attribute = path.split('.')
            for each in owners:
                owner = getattr(owner, each)
            function = getattr(owner, attribute)
            undone.append((owner, attribute, owner.__dict__[attribute]))
            setattr(owner, attribute, _watch(function, name, times))
    try:
        yield
    finally:
        for owner, attribute, function in undone:
            setattr(owner, attribute, function)


def _watch(function, name, times):
    @wraps(function, updated=())
    def watched_function(*arguments, **keywords):
        start = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            times[name] += time.perf_counter() - start

    return watched_function


def latency_row(method, cutout):
    """Time one call, and return a row of what it consists of, in ms."""
    estimator = make_estimator(method)
    estimator.predict(cutout, progress=False)
    calls = []
    own = type(estimator)._measure_batch
    for _ in range(LATENCY_CALLS):
        times = defaultdict(float)
        estimator._measure_batch = _watch(own.__get__(estimator), 'method', times)
        with timed(times):
            start = time.perf_counter()
            estimator.predict(cutout, progress=False)
            times['all'] = time.perf_counter() - start
        calls.append(times)
    typical = {
        name: 1e3 * median(times[name] for times in calls)
        for name in ('all', 'cutout', 'method', 'canvas', 'network')
    }
    is_network = typical['network'] > 0
    rest = typical['all'] - typical['cutout'] - typical['method']
    other = typical['method'] - typical['canvas'] - typical['network']
    return [
        KNOWN_METHODS[method].label,
        grouped_text(typical['all']),
        grouped_text(typical['cutout']),
        grouped_text(typical['canvas']) if is_network else '',
        grouped_text(typical['network']) if is_network else '',
        grouped_text(other),
        grouped_text(max(rest, 0.0)),
    ]


def main():
    """Run from the command line."""
    counts = {
        'n': (100_000, 'cutouts in the stream'),
        'calls': (10_000, 'calls with one cutout'),
    }
    arguments = command_line(__doc__, **counts).parse_args()
    use_one_thread()
    header = [
        *('method', 'cutouts', 'a second', 'MB after a tenth', 'MB at the end'),
        *('bytes a cutout', 'of its row'),
    ]
    rows = [stream_rows('cnn', arguments.n), stream_rows('aperture', arguments.n)]
    put_out(rst_table(header, rows), 'load-stream', write=arguments.write)
    header = ['method', 'calls', 'MB', 'objects', 'open files']
    rows = [repeat_rows('cnn', arguments.calls), repeat_rows('kron', arguments.calls)]
    put_out(rst_table(header, rows), 'load-calls', write=arguments.write)
    drawn = list(simulate_cutouts(20, seed=SEED))
    # one that all methods detect
    cutout, _ = max(drawn, key=lambda each: each[1]['flux'])
    header = [
        *('method', 'ms', 'cutout', 'canvas', 'network'),
        *('other steps of the method', 'rows and the rest'),
    ]
    rows = [latency_row(method, cutout) for method in METHODS]
    put_out(rst_table(header, rows), 'load-latency', write=arguments.write)


if __name__ == '__main__':
    main()
