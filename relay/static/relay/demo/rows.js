/** A table of fixed rows whose cells change: numbers move through it, the rows stay. */

const FEWEST = 1;
const MOST = 60;
const LONG = 12; // characters of a price: a longer one takes room from the other columns
const ROOM = 12; // characters of a size next to a price of the usual length
const NARROW_ROOM = 9; // and next to a long one
const LONGEST_UNIT = 7; // characters that a heading has room for

/** Rows inside one element that has `role="table"`. */
export class Rows {
  #head;
  #rows = []; // {element, cells, texts, fill, kind, flash}; cells are text nodes
  #columns;
  #isLong = false;

  /**
   * @param {HTMLElement} element
   * @param {string[]} columns their headings
   */
  constructor(element, columns) {
    this.element = element;
    this.#columns = columns;
    this.#head = make("head", "columnheader", columns);
    this.name(columns);
    element.replaceChildren(this.#head);
  }

  get count() {
    return this.#rows.length;
  }

  /** How many characters of a size there is room for. */
  get sizeRoom() {
    return this.#isLong ? NARROW_ROOM : ROOM;
  }

  /** Divide the width for prices of so many characters. */
  divide(characters) {
    const isLong = characters > LONG;
    if (isLong === this.#isLong) return;
    this.#isLong = isLong;
    this.element.classList.toggle("long", isLong);
  }

  /** Write other headings over the columns. */
  name(columns) {
    columns.forEach((heading, index) => {
      this.#head.children[index].textContent = heading;
    });
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
      // Text nodes that stay: changing one is much cheaper than replacing it.
      const cells = [...element.children].map((cell) => cell.appendChild(new Text()));
      this.#rows.push({ element, cells, texts: [], fill: null, kind: null, flash: null });
      this.element.append(element);
    }
  }

  /** Put these texts into a row, touching only the cells that change. */
  write(index, texts) {
    const row = this.#rows[index];
    texts.forEach((text, column) => {
      if (row.texts[column] === text) return;
      row.cells[column].data = text;
      row.texts[column] = text;
    });
  }

  /** Draw the bar of a row, as a share of its width from 0 to 1. */
  fill(index, share) {
    const row = this.#rows[index];
    const fill = `${(share * 100).toFixed(1)}% 100%`;
    if (row.fill === fill) return;
    row.element.style.backgroundSize = fill;
    row.fill = fill;
  }

  /** Say what kind of row this is, for the style sheet. */
  mark(index, kind) {
    this.#note(index, "kind", kind);
  }

  /** Say whether its size has just changed, and how: "up", "down" or null. */
  flash(index, tone) {
    this.#note(index, "flash", tone);
  }

  clear(index) {
    this.write(index, this.#columns.map(() => ""));
    this.fill(index, 0);
    this.mark(index, null);
    this.flash(index, null);
  }

  #note(index, name, value) {
    const row = this.#rows[index];
    if (row[name] === value) return;
    if (value === null) delete row.element.dataset[name];
    else row.element.dataset[name] = value;
    row[name] = value;
  }
}

/** A heading with its unit, where there is room for both. */
export function heading(word, unit) {
  return unit && unit.length <= LONGEST_UNIT ? `${word} (${unit})` : word;
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
