/**
 * Tables of the admin's live page: each row belongs to one thing and never shows another.
 *
 * So a button that is pressed means what it stood next to. Rows follow the order that the server
 * gives them, except while an operator works in the table: then they stay where they are, the
 * numbers go on, and what has left is greyed until the hand is off it.
 */

import { text } from "./picture.js";

const HOLD = 8_000; // ms after the last touch that rows keep their places

/** One table whose rows are updated in place. */
export class LiveTable {
  #body;
  #columns;
  #keyOf;
  #actions;
  #rows = new Map(); // key -> {element, item, cells: [{element, text, state}], buttons}
  #heldUntil = 0;
  #none;

  /**
   * @param {HTMLTableElement} table with a caption
   * @param {object} options
   * @param {readonly object[]} options.columns see `picture.js`
   * @param {(item: object) => string} options.keyOf what tells one thing from another
   * @param {{words: (item: object) => string, name: string, act: (item: object) => void}[]} [options.actions]
   *   buttons of each row
   * @param {(cell: HTMLElement, item: object) => void} [options.dress] draws more into the first cell
   */
  constructor(table, { columns, keyOf, actions = [], dress = null }) {
    this.table = table;
    this.dress = dress;
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#actions = actions;
    this.headings = columns.map((column) => heading(column));
    const head = table.createTHead().insertRow();
    head.append(...this.headings);
    if (actions.length > 0) head.append(heading({ heading: "Actions", key: "actions" }));
    this.#body = table.createTBody();
    this.#none = document.createElement("tr");
    const cell = this.#none.insertCell();
    cell.colSpan = head.cells.length;
    cell.className = "live-none";
    for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      this.#body.addEventListener(kind, () => this.hold(), { passive: true });
    }
    this.#body.addEventListener("pointerleave", () => this.release());
  }

  /** Whether rows keep their places at the moment. */
  get isHeld() {
    return performance.now() < this.#heldUntil && this.#rows.size > 0;
  }

  hold() {
    this.#heldUntil = performance.now() + HOLD;
  }

  release() {
    this.#heldUntil = 0;
  }

  /**
   * Show these things.
   *
   * @param {object[]} items in order
   * @param {number} now the server's time in Unix ms
   * @param {string} none what is said where there is nothing
   */
  update(items, now, none) {
    const wanted = new Map(items.map((item) => [this.#keyOf(item), item]));
    if (this.isHeld) {
      for (const [key, row] of this.#rows) {
        const item = wanted.get(key);
        row.element.classList.toggle("live-gone", item === undefined);
        if (item !== undefined) this.#write(row, item, now);
      }
      return;
    }
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    const focused = /** @type {HTMLElement|null} */ (document.activeElement);
    let place = this.#body.firstChild;
    for (const [key, item] of wanted) {
      let row = this.#rows.get(key);
      if (row === undefined) {
        row = this.#make();
        this.#rows.set(key, row);
      }
      row.element.classList.remove("live-gone");
      this.#write(row, item, now);
      if (row.element === place) place = place.nextSibling;
      else this.#body.insertBefore(row.element, place);
    }
    if (focused !== document.activeElement && this.#body.contains(focused)) {
      focused.focus({ preventScroll: true }); // a row that moves loses it
    }
    if (wanted.size === 0) {
      put(this.#none.firstChild, none);
      this.#body.append(this.#none);
    } else {
      this.#none.remove();
    }
  }

  #make() {
    const element = document.createElement("tr");
    const row = { element, item: null, cells: [], buttons: [] };
    this.#columns.forEach((column, index) => {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      cell.className = `field-${column.key}${column.isNumber ? " live-number" : ""}`;
      const words = document.createElement("span");
      cell.append(words);
      element.append(cell);
      row.cells.push({ element: cell, words, text: null });
    });
    if (this.#actions.length > 0) {
      const cell = document.createElement("td");
      cell.className = "field-actions";
      for (const action of this.#actions) {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.action = action.name;
        button.addEventListener("click", () => action.act(row.item));
        cell.append(button);
        row.buttons.push(button);
      }
      element.append(cell);
    }
    return row;
  }

  #write(row, item, now) {
    row.item = item;
    this.#columns.forEach((column, index) => {
      const cell = row.cells[index];
      const written = text(column, item, now);
      if (cell.text !== written) {
        cell.words.replaceChildren(...breakable(written));
        cell.text = written;
        if (column.isState) cell.words.dataset.state = written;
        if (!column.isNumber) cell.words.title = written.length > 24 ? written : "";
      }
    });
    this.dress?.(row.cells[0].element, item);
    this.#actions.forEach((action, index) => {
      const button = row.buttons[index];
      const words = action.words(item);
      if (button.textContent === words) return;
      button.textContent = words;
      button.setAttribute("aria-label", `${words} ${row.cells[0].text}`);
    });
  }
}

/** Text that a narrow column breaks behind a dot, as in `orderbook.200.BTCUSDT`. */
function breakable(words) {
  const [first, ...others] = words.split(/(?<=[a-z]\.|\d\.(?=[A-Z]))/);
  return [first, ...others.flatMap((part) => [document.createElement("wbr"), part])];
}

function heading(column) {
  const cell = document.createElement("th");
  cell.scope = "col";
  cell.className = `column-${column.key}${column.isNumber ? " live-number" : ""}`;
  const box = document.createElement("div");
  box.className = "text";
  const words = document.createElement("span");
  words.textContent = column.heading;
  box.append(words);
  cell.append(box);
  return cell;
}

/** Put text into an element, touching it only where it differs. */
export function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
