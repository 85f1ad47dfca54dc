# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Damaged inputs by the million, and what comes of them.

    python benchmarks/fuzz.py --inputs 1000000 --workers 2 --resume --write

tries files, arrays, keywords, tables, saved estimators and weights that were damaged at random,
and writes how many end in a clear error, a flagged NaN, the same number or a flagged other one.
None may end otherwise: such inputs are listed in ``.runs/fuzz``, and

    python benchmarks/fuzz.py --only NUMBER

tries one of them again, in this process. A process that hangs or ends is replaced. Linux only, as
memory is looked at where that keeps it.
"""

import json
import multiprocessing
import resource
import shutil
import sys
import time
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path

from fuzz_outcomes import CRASH, FORBIDDEN, HANG, MEMORY, OUTCOMES, UNSEEN
from fuzz_trials import CHUNK, FAMILIES, SECONDS, Trials, folder_for_files
from report import command_line, put_out, rst_table
from tqdm import tqdm

RUNS = Path(__file__).parents[1] / '.runs' / 'fuzz'
# How much more memory a process may use than it has when it begins, and how much it may ask for,
# so that the machine comes to no harm: what is asked for and not used costs nothing.
USED, ASKED = 2 * 1024**3, 6 * 1024**3
# A process that has not stopped by itself is ended after this time.
PATIENCE = 1.5 * SECONDS


def limit_memory():
    """Let this process ask for some memory more than it has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    size = pages * resource.getpagesize() + ASKED
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def peak():
    """Return the most memory that this process has used since the last call, in bytes."""
    status = Path('/proc/self/status').read_text()
    size = int(status.partition('VmHWM:')[2].split()[0]) * 1024
    Path('/proc/self/clear_refs').write_text('5')
    return size


def work(pipe, number, began, seed, folder):
    """Try chunks as they are asked for."""
    import torch

    torch.set_num_threads(1)
    trials = Trials(folder, seed)
    trials.warm_up()
    limit_memory()
    most = peak() + USED

    def tell(now):
        number.value, began.value = now, time.monotonic()

    while True:
        chunk, without, one_by_one = pipe.recv()
        numbers = [n for n in range(chunk * CHUNK, (chunk + 1) * CHUNK) if n not in without]
        options = {'one_by_one': one_by_one, 'began': tell}
        came = list(trials.chunk(chunk, numbers=numbers, **options))
        if peak() > most:
            came.append((numbers[0], 'unknown', 'one of a chunk', MEMORY, f'chunk {chunk}'))
        began.value = 0.0
        pipe.send(came)


class Worker:
    """A process, what it is at, and what of its chunk must not be tried again."""

    def __init__(self, seed, folder):
        self.seed, self.folder = seed, folder
        self.chunk = None
        self.start()

    def start(self):
        """Begin a process."""
        context = multiprocessing.get_context('spawn')
        self.pipe, end = context.Pipe()
        self.number, self.began = context.Value('q', -1), context.Value('d', 0.0)
        arguments = (end, self.number, self.began, self.seed, self.folder)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        end.close()

    def ask(self, chunk):
        """Ask for a chunk."""
        self.chunk, self.lost, self.one_by_one = chunk, [], False
        self.pipe.send((chunk, [], False))

    @property
    def hangs(self):
        """Whether it is at one input for too long."""
        return self.began.value > 0 and time.monotonic() - self.began.value > PATIENCE

    def replace(self, outcome):
        """Begin again after an input that ended the process, or has to be ended with it."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        number, code = self.number.value, self.process.exitcode
        if number < 0:
            msg = f'a process ended before it tried anything (exit {code})'
            raise RuntimeError(msg)
        # in a batch of many it may have been any
        if self.one_by_one:
            self.lost.append((number, 'unknown', 'unknown', outcome, f'exit {code}'))
        self.one_by_one = True
        self.start()
        self.pipe.send((self.chunk, [each[0] for each in self.lost], True))


def run(chunks, seed, n_workers, folder):
    """Yield each chunk with what came of its inputs."""
    workers, n_left, chunks = [], len(chunks), iter(chunks)
    for index in range(min(n_workers, n_left)):
        own = Path(folder) / str(index)
        own.mkdir()
        workers.append(Worker(seed, own))
        workers[-1].ask(next(chunks))
    while n_left:
        by_pipe = {worker.pipe: worker for worker in workers if worker.chunk is not None}
        for pipe in wait(list(by_pipe), timeout=1):
            worker = by_pipe[pipe]
            try:
                came = pipe.recv()
            except EOFError:
                worker.replace(CRASH)
                continue
            yield worker.chunk, [*came, *worker.lost]
            n_left -= 1
            worker.chunk = next(chunks, None)
            if worker.chunk is not None:
                worker.ask(worker.chunk)
        for worker in workers:
            if worker.chunk is not None and worker.hangs:
                worker.replace(HANG)
    for worker in workers:
        worker.process.kill()


def tally_of(path):
    """Return how often each outcome was in each family, and of which change some were."""
    outcomes, changes, chunks = Counter(), Counter(), set()
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        chunks.add(record['chunk'])
        for family, outcome, change, n in record['counts']:
            outcomes[family, outcome] += n
            if change:
                changes[outcome, change] += n
    return outcomes, changes, chunks


def keep(path, chunk, came):
    """Add the counts of a chunk to a file, and the forbidden ones to another."""
    told = (UNSEEN, *FORBIDDEN)
    counts = Counter(
        (family, outcome, change if outcome in told else '')
        for _, family, change, outcome, _ in came
    )
    counts = [[*key, n] for key, n in counts.items()]
    with path.open('a') as file:
        file.write(json.dumps({'chunk': chunk, 'counts': counts}) + '\n')
    with path.with_name('forbidden.txt').open('a') as file:
        for number, family, change, outcome, text in came:
            if outcome in FORBIDDEN:
                file.write(f'{number}\t{outcome}\t{family}\t{change}\t{text}\n')


def table_of(outcomes):
    """Return the table of families and outcomes."""
    shown = [name for name in OUTCOMES if name not in FORBIDDEN]
    rows = []
    for family in [*FAMILIES, *({family for family, _ in outcomes} - {*FAMILIES})]:
        counts = [outcomes[family, outcome] for outcome in shown]
        bad = sum(outcomes[family, outcome] for outcome in FORBIDDEN)
        rows.append([family, sum(counts) + bad, *counts, bad])
    rows.append(['all', *map(sum, zip(*(row[1:] for row in rows), strict=True))])
    cells = [[row[0], *(f'{value:,}' for value in row[1:])] for row in rows]
    return rst_table(['damaged', 'inputs', *shown, 'none of these'], cells)


def main():
    """Run from the command line."""
    parser = command_line(
        __doc__,
        inputs=(100_000, 'how many'),
        seed=(0, 'of the inputs'),
        workers=(2, 'processes'),
    )
    parser.add_argument('--resume', action='store_true', help='go on with what was tried before')
    parser.add_argument('--only', type=int, help='try one input, in this process')
    arguments = parser.parse_args()
    if arguments.only is not None:
        with folder_for_files() as folder:
            trials = Trials(folder, arguments.seed)
            print(*trials.chunk(arguments.only // CHUNK, numbers=[arguments.only]))
            kept = RUNS / f'{arguments.seed}-{arguments.only}'
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        print(f'its files are in {kept}')
        return
    folder = RUNS / str(arguments.seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'tally.jsonl'
    if not arguments.resume:
        path.unlink(missing_ok=True)
        path.with_name('forbidden.txt').unlink(missing_ok=True)
    chunks = sorted({*range(-(-arguments.inputs // CHUNK))} - tally_of(path)[2])
    with folder_for_files() as files, tqdm(total=len(chunks) * CHUNK, unit=' inputs') as bar:
        for chunk, came in run(chunks, arguments.seed, arguments.workers, files):
            keep(path, chunk, came)
            bar.update(CHUNK)
    outcomes, changes, _ = tally_of(path)
    put_out(table_of(outcomes), 'fuzz', write=arguments.write)
    unseen = [(change, n) for (outcome, change), n in changes.most_common() if outcome == UNSEEN]
    rows = [[change, f'{n:,}'] for change, n in unseen[:12]] or [['none', '0']]
    put_out(
        rst_table(['change that was not seen', 'inputs'], rows),
        'fuzz-unseen',
        write=arguments.write,
    )
    for (outcome, change), n in changes.most_common():
        if outcome in FORBIDDEN:
            print(f'{n} of {outcome}: {change}')
    sys.exit(any(outcome in FORBIDDEN for _, outcome in outcomes))


if __name__ == '__main__':
    main()
