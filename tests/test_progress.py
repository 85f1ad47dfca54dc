# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Bars on terminals and in notebooks, lines in logs, nothing for short work."""

import io
import sys
from types import SimpleNamespace

import pytest
from tqdm import notebook

from astroflux import _progress
from astroflux._progress import progress_bar


class Stream(io.StringIO):
    """What is written to a terminal or to a log."""

    def __init__(self, monkeypatch, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal
        monkeypatch.setattr(sys, 'stderr', self)

    def isatty(self):
        return self.is_terminal


def work(**options):
    for _ in progress_bar(range(4), desc='work', **options):
        pass


def test_lines_in_a_log(monkeypatch):
    stream = Stream(monkeypatch, False)
    monkeypatch.setattr(_progress, 'LOG_INTERVAL', 0)
    work()
    lines = stream.getvalue().splitlines()
    assert [line.split(',')[0] for line in lines] == [f'work: {n}/4' for n in (1, 2, 3, 4)]
    assert lines[-1].endswith('left')
    assert '\r' not in stream.getvalue()


def test_a_log_has_few_lines(monkeypatch):
    stream = Stream(monkeypatch, False)
    work(progress=True)
    # the interval is half a minute: there is the end alone
    assert len(stream.getvalue().splitlines()) == 1


def test_lines_stop_where_the_work_does(monkeypatch):
    stream = Stream(monkeypatch, False)
    with progress_bar(total=9, desc='work', progress=True) as bar:
        bar.update(3)
        bar.set_postfix({'loss': 0.25}, refresh=False)
    assert stream.getvalue().startswith('work: 3/9')
    assert stream.getvalue().endswith(', loss=0.25\n')


def test_bar_on_a_terminal_goes(monkeypatch):
    stream = Stream(monkeypatch, True)
    work(progress=True)
    shown = stream.getvalue().split('\r')
    assert any('0/4' in text for text in shown)
    # the last one is blank, and the next text begins in its place
    assert shown[-2].isspace()
    assert shown[-1] == ''


@pytest.mark.parametrize('is_terminal', [True, False])
def test_nothing_for_short_or_quiet_work(monkeypatch, is_terminal):
    stream = Stream(monkeypatch, is_terminal)
    work()
    work(progress=False)
    monkeypatch.setattr(_progress, 'DELAY', 0)
    monkeypatch.setattr(_progress, 'LOG_INTERVAL', 0)
    work(progress=False)
    assert stream.getvalue() == ''


@pytest.fixture
def cell(monkeypatch):
    """The outputs of a cell of a notebook, with widgets that do nothing."""
    outputs = []

    class Widget(SimpleNamespace):
        def __init__(self, **values):
            layout, style = SimpleNamespace(), SimpleNamespace()
            super().__init__(value='', bar_style='', layout=layout, style=style, **values)

        def close(self):
            self.is_closed = True

    def display(item, display_id):
        assert display_id
        outputs.append(item)
        place = len(outputs) - 1

        def update(data, raw):
            assert raw
            outputs[place] = data

        return SimpleNamespace(update=update)

    for name in ('IProgress', 'HTML', 'TqdmHBox'):
        # not there without ipywidgets
        monkeypatch.setattr(notebook, name, Widget, raising=False)
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'IPython.display', SimpleNamespace(display=display))
    bar = _progress._that_goes(notebook.tqdm)
    monkeypatch.setattr(_progress, '_notebook_bar', lambda: bar)
    return outputs


def test_bar_in_a_notebook_leaves_an_empty_place(cell):
    with progress_bar(total=4, progress=True, mininterval=0) as bar:
        bar.update()
        (widget,) = cell
        assert widget.children[1].value == 1
        bar.update(3)
    assert widget.is_closed
    assert cell == [{'text/plain': ''}]


def test_short_work_shows_nothing_in_a_notebook(cell):
    work()
    work(progress=False)
    assert cell == []


def test_no_notebook_here():
    assert _progress._notebook_bar() is None
