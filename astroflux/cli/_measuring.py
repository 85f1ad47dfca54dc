# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files measured in chunks, in this process or in several, so that an end too early loses few."""

from astroflux._work import call_in_processes, use_one_thread
from astroflux.cli._earlier import combine, names_in, plain_name, read_earlier
from astroflux.estimators._parts import join_parts, measure_part, record_of

__all__ = ['FileMeasurement']

# as many as a network measures well at a time
CHUNK_SIZE = 64

# What a process that was started for this measures with; what it loads is kept with it.
_estimator = None
_options = {}


class FileMeasurement:
    """
    Files and how to measure them; grows by their rows.

    Parameters
    ----------
    paths : list of `~pathlib.Path`
        The files.
    estimator : `~astroflux.estimators.FluxEstimator`
        The method.
    options : dict
        Those of its ``measure``.
    reading : dict
        What of the files is read: arguments of `~astroflux.cutouts.CutoutFile`.
    chunk_size : int, optional
        How many files are measured at a time. It does not depend on the number of processes, and
        so neither do the numbers.
    """

    def __init__(self, paths, estimator, options, reading, *, chunk_size=CHUNK_SIZE):
        self.paths = paths
        self._estimator = estimator
        self._options = options
        self._reading = reading
        self._chunk_size = chunk_size
        self._earlier = None
        self._parts = {}
        # bad parameters of the method are told here
        self._record = self._with_reading(record_of(estimator, **options))

    def _with_reading(self, meta):
        plain = {
            name: value if isinstance(value, int) else str(value)
            for name, value in self._reading.items()
            # no number depends on it
            if name != 'max_pixels'
        }
        if not plain:
            return meta
        return {**meta, 'reading': plain}

    def go_on_with(self, path):
        """Take the rows of a table that was begun with the same settings."""
        self._earlier = read_earlier(path, self._record)

    @property
    def n_missing(self):
        """How many files have no row."""
        return len(self._missing()) - sum(part.n_rows for part in self._parts.values())

    def _missing(self):
        """Files without a row in an earlier table."""
        done = {} if self._earlier is None else names_in(self._earlier)
        return [path for path in self.paths if plain_name(path) not in done]

    def run(self, *, workers=1):
        """Measure the files that have no row; yield how many have got one, as they do."""
        items = self._missing()
        if self._reading:
            from astroflux.cutouts import CutoutFile

            items = [CutoutFile(path, **self._reading) for path in items]
        size = self._chunk_size
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        for number, rows in iter_parts(self._estimator, chunks, self._options, workers=workers):
            known = next((part for part in self._parts.values() if part.has_unit), rows)
            # raises if its fluxes cannot stand in one column with those of others
            known.factor_from(rows)
            self._parts[number] = rows
            yield rows.n_rows

    def table(self):
        """Return the table of what is measured, in the order of the files; `None` if nothing is."""
        if not self._parts:
            return self._earlier
        parts = [self._parts[number] for number in sorted(self._parts)]
        table = join_parts(self._estimator, parts, **self._options)
        table.meta = self._with_reading(table.meta)
        if self._earlier is None:
            return table
        return combine(self._earlier, table, self.paths)


def iter_parts(estimator, chunks, options, *, workers=1):
    """
    Yield the number and the rows of each chunk, as they come.

    `KeyboardInterrupt` is raised when what was measured until then has been yielded.
    """
    workers = min(workers, len(chunks))
    if workers <= 1:
        for number, chunk in enumerate(chunks):
            yield number, measure_part(estimator, chunk, **options)
        return
    yield from call_in_processes(
        _measure,
        [(chunk,) for chunk in chunks],
        workers=workers,
        initializer=_start_worker,
        initargs=(estimator, options),
    )


def _start_worker(estimator, options):
    global _estimator, _options
    use_one_thread()
    _estimator, _options = estimator, options


def _measure(cutouts):
    return measure_part(_estimator, cutouts, **_options)
