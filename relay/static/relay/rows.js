/** A table of fixed rows whose cells change: numbers move through it, the rows stay. */

const FEWEST = 1;
const MOST = 60;

/** Rows inside one element that has `role="table"`. */
export class Rows {
  #head;
  #rows = []; // {element, cells, texts, fill, kind}
  #columns;

  /**
   * @param {HTMLElement} element
   * @param {string[]} columns their headings
   */
  constructor(element, columns) {
    this.element = element;
    this.#columns = columns;
    this.#head = make("head", "columnheader", columns);
    columns.forEach((heading, index) => (this.#head.children[index].textContent = heading));
    element.replaceChildren(this.#head);
  }

  get count() {
    return this.#rows.length;
  }

  /** How many rows there is room for. */
  room() {
    const height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row"));
    const free = this.element.clientHeight - this.#head.offsetHeight;
    return Math.max(FEWEST, Math.min(MOST, Math.floor(free / height)));
  }

  resize(count) {
    while (this.#rows.length > count) this.#rows.pop().element.remove();
    while (this.#rows.length < count) {
      const element = make("row", "cell", this.#columns);
      this.#rows.push({ element, cells: [...element.children], texts: [], fill: null, kind: null });
      this.element.append(element);
    }
  }

  /** Put these texts into a row, touching only the cells that change. */
  write(index, texts) {
    const row = this.#rows[index];
    texts.forEach((text, column) => {
      if (row.texts[column] === text) return;
      row.cells[column].textContent = text;
      row.texts[column] = text;
    });
  }

  /** Draw the bar of a row, as a share of its width from 0 to 1. */
  fill(index, share) {
    const row = this.#rows[index];
    const fill = share.toFixed(4);
    if (row.fill === fill) return;
    row.element.style.setProperty("--fill", fill);
    row.fill = fill;
  }

  /** Say what kind of row this is, for the style sheet. */
  mark(index, kind) {
    const row = this.#rows[index];
    if (row.kind === kind) return;
    if (kind === null) delete row.element.dataset.kind;
    else row.element.dataset.kind = kind;
    row.kind = kind;
  }

  clear(index) {
    this.write(index, this.#columns.map(() => ""));
    this.fill(index, 0);
    this.mark(index, null);
  }
}

function make(name, role, columns) {
  const element = document.createElement("div");
  element.className = name;
  element.setAttribute("role", "row");
  for (let count = 0; count < columns.length; count += 1) {
    const cell = document.createElement("span");
    cell.setAttribute("role", role);
    element.append(cell);
  }
  return element;
}
