/** Timers with names: one of each name at a time, all cancelled together. */

export class Timers {
  #environment;
  #handles = new Map();

  /** @param {{setTimeout: Function, clearTimeout: Function}} environment */
  constructor(environment) {
    this.#environment = environment;
  }

  /** Call `callback` after `wait` ms, instead of whatever the name was to do before. */
  after(name, wait, callback) {
    this.cancel(name);
    const handle = this.#environment.setTimeout(() => {
      this.#handles.delete(name);
      callback();
    }, wait);
    this.#handles.set(name, handle);
  }

  cancel(name) {
    if (!this.#handles.has(name)) return;
    this.#environment.clearTimeout(this.#handles.get(name));
    this.#handles.delete(name);
  }

  cancelAll() {
    for (const name of [...this.#handles.keys()]) this.cancel(name);
  }
}
