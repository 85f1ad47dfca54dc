'use strict';
// Heads of tables become buttons that sort; without this script the tables are merely not sorted.
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, index) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    const isNumber = head.classList.contains('number');
    const keyOf = (row) => {
      const cell = row.cells[index];
      if (!isNumber) return cell.textContent;
      return 'sort' in cell.dataset ? Number(cell.dataset.sort) : null;
    };
    head.addEventListener('click', () => {
      const descending = head.getAttribute('aria-sort') === 'ascending';
      for (const other of heads) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
      const rows = [...body.rows].map((row) => [keyOf(row), row]);
      rows.sort(([a], [b]) => {
        // what is missing is last either way
        if (a === null || b === null) return (a === null) - (b === null);
        const order = isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true });
        return descending ? -order : order;
      });
      for (const [, row] of rows) {
        row.classList.remove('group');
        body.append(row);
      }
    });
  });
}
