/** The few words the page's drawing is written in. Text goes in by `textContent` alone. */

export const byId = (id) => document.getElementById(id);

/** Make an element with a class and a text. */
export function part(tag, name = "", text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** Write a text where it differs from what is there. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a data attribute, or remove it for null. */
export function mark(element, name, value) {
  if (value === null) delete element.dataset[name];
  else if (element.dataset[name] !== value) element.dataset[name] = value;
}
