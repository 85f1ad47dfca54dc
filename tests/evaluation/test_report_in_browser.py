# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page as a browser sees it: a script in a copy of it reports what it finds."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from astroflux.evaluation import write_report

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')

# At the start of the page, before anything can go wrong. Images that do not load, and what the
# policy of the page forbids, tell only a listener that captures.
EARLY = """
window.found = { errors: [] };
window.addEventListener('error', (event) => {
  const source = event.target.src || event.target.href;
  window.found.errors.push(event.message || `cannot load ${String(source).slice(0, 60)}`);
}, true);
window.addEventListener('unhandledrejection', (event) => {
  window.found.errors.push(String(event.reason));
});
document.addEventListener('securitypolicyviolation', (event) => {
  window.found.errors.push(`forbidden: ${event.blockedURI}`);
});
"""

# At its end: what it looks like, and what each head of a table does when clicked twice.
LATE = """
window.addEventListener('load', () => {
  const { found } = window;
  found.images = [...document.images].map((image) => (
    { width: image.naturalWidth, shown: image.clientWidth, alt: image.alt }
  ));
  found.pageWidth = document.documentElement.scrollWidth;
  found.narrowest = Math.min(
    ...[...document.querySelectorAll('dd')].map((entry) => entry.clientWidth)
  );
  found.windowWidth = window.innerWidth;
  found.background = getComputedStyle(document.body).backgroundColor;
  found.resources = performance.getEntriesByType('resource')
    .map((entry) => entry.name).filter((name) => !name.startsWith('data:'));
  found.clicks = [];
  try {
    document.querySelectorAll('table').forEach((table, number) => {
      const heads = [...table.tHead.rows[0].cells];
      const isNumber = (index) => heads[index].className === 'number';
      const read = (index) => [...table.tBodies[0].rows].map((row) => row.cells[index]).map(
        (cell) => (isNumber(index) ? cell.dataset.sort ?? null : cell.textContent)
      );
      heads.forEach((head, index) => {
        const click = {
          table: number,
          head: head.textContent,
          isNumber: isNumber(index),
          before: read(index),
        };
        const button = head.querySelector('button');
        button.focus();
        click.hasFocus = document.activeElement === button;
        button.click();
        click.first = read(index);
        click.firstSort = heads.map((other) => other.getAttribute('aria-sort'));
        button.click();
        click.second = read(index);
        click.secondSort = heads.map((other) => other.getAttribute('aria-sort'));
        click.index = index;
        found.clicks.push(click);
      });
    });
  } catch (error) {
    found.errors.push(String(error));
  }
  const result = document.createElement('pre');
  result.id = 'found';
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
"""


def find_browser():
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    return None


pytestmark = pytest.mark.skipif(find_browser() is None, reason=f'none of {", ".join(BROWSERS)}')


class Found(HTMLParser):
    """The text of the element that the script adds."""

    def __init__(self, html):
        super().__init__()
        self.inside, self.text = False, ''
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.inside = dict(attrs).get('id') == 'found'

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.text += data


def look(html, folder, *, width=1200, options=()):
    """Open the page in a browser, and return what the scripts found."""
    for place, script in (('<head>', EARLY), ('</body>', LATE)):
        assert html.count(place) == 1
        tag = f'<script>{script}</script>'
        html = html.replace(place, place + tag if place == '<head>' else tag + place)
    page = folder / 'page.html'
    page.write_text(html, encoding='utf-8')
    command = [
        find_browser(),
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        f'--user-data-dir={folder / "profile"}',
        f'--window-size={width},900',
        *options,
        '--virtual-time-budget=5000',
        '--dump-dom',
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    found = Found(done.stdout.decode())
    assert found.text, done.stderr.decode()[-2000:]
    return json.loads(found.text)


def check_sorting(click):
    """A head sorts its column up, then down, what is missing last."""
    want = [value for value in click['before'] if value is not None]
    n_missing = len(click['before']) - len(want)
    if click['isNumber']:
        want = sorted(map(float, want))
        first, second = (
            [None if value is None else float(value) for value in click[name]]
            for name in ('first', 'second')
        )
        assert first == want + [None] * n_missing
        assert second == want[::-1] + [None] * n_missing
    else:
        assert click['first'] == sorted(want, key=str.lower)
        assert click['second'] == click['first'][::-1]
    for name, direction in (('firstSort', 'ascending'), ('secondSort', 'descending')):
        sorts = click[name]
        assert sorts[click['index']] == direction
        assert [sort for sort in sorts if sort] == [direction]
    assert click['hasFocus']


def check_no_resource(html):
    for name, value in re.findall(r'\b(src|href|srcset|action|poster)="([^"]*)"', html):
        assert value.startswith(('data:', '#')), f'{name}={value[:80]}'
    assert not re.search(r'url\(|@import|<link|<iframe|<object|fetch\(|XMLHttpRequest', html)


@pytest.mark.parametrize(
    ('fixture', 'width', 'n_images'), [('comparison', 1200, 26), ('truthless', 500, 18)]
)
def test_page(request, tmp_path, fixture, width, n_images):
    path = write_report(request.getfixturevalue(fixture), tmp_path / 'report')
    html = path.read_text(encoding='utf-8')
    check_no_resource(html)
    found = look(html, tmp_path, width=width)
    assert found['errors'] == []
    assert found['resources'] == []
    assert len(found['images']) == n_images
    for image in found['images']:
        assert image['width'] > 0
        assert image['shown'] > 100
        assert len(image['alt']) > 10
    assert found['windowWidth'] == width
    # wide tables scroll by themselves, the page does not
    assert found['pageWidth'] <= width
    # no text is squeezed into a column of letters
    assert found['narrowest'] > 60
    assert found['clicks']
    for click in found['clicks']:
        check_sorting(click)
    # not all of them were sorted before
    assert any(click['before'] != click['first'] for click in found['clicks'] if click['isNumber'])


def test_dark(truthless, tmp_path):
    html = write_report(truthless, tmp_path / 'report').read_text(encoding='utf-8')
    assert look(html, tmp_path)['background'] == 'rgb(255, 255, 255)'
    dark = look(html, tmp_path, options=['--blink-settings=preferredColorScheme=0'])
    assert dark['background'] == 'rgb(22, 24, 27)'


def test_faults_are_noticed(truthless, tmp_path):
    """The checks above fail where they have to."""
    html = write_report(truthless, tmp_path / 'report').read_text(encoding='utf-8')
    broken = re.sub('base64,[^"]*', 'base64,AAAA', html, count=1)
    broken = broken.replace('descending ? -order : order', 'order')
    broken = broken.replace(
        '<main>', '<main><script>missing();</script><img alt="" src="http://127.0.0.1:9/a.png">'
    )
    with pytest.raises(AssertionError, match='src=http'):
        check_no_resource(broken)
    found = look(broken, tmp_path)
    errors = '\n'.join(found['errors'])
    assert 'missing is not defined' in errors
    assert 'cannot load data:image/png;base64,AAAA' in errors
    assert 'forbidden: http://127.0.0.1:9/a.png' in errors
    assert [image['width'] for image in found['images']].count(0) == 2
    first_click = next(click for click in found['clicks'] if click['isNumber'])
    with pytest.raises(AssertionError):
        check_sorting(first_click)
