/** The few words the page's drawing is written in. What is shown goes in as text alone. */

/** The element of the template with that id. @type {(id: string) => any} */
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
  const node = element.firstChild;
  if (node === null || node !== element.lastChild || node.nodeType !== Node.TEXT_NODE) {
    element.textContent = text;
  } else if (node.data !== text) {
    node.data = text; // in place: replacing the node costs the browser much more
  }
}

/** Set a data attribute, or remove it for null. */
export function mark(element, name, value) {
  if (value === null) delete element.dataset[name];
  else if (element.dataset[name] !== value) element.dataset[name] = value;
}
