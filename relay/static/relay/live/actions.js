/** What an operator does on the live page: one question, one request, one answer. */

/** Each action: what is asked, what it does, and which fields the server wants. */
const ACTIONS = Object.freeze({
  resync: {
    title: ({ topic, category }) => `Resync ${topic} (${category})?`,
    words: "It is unsubscribed at the exchange and subscribed again. Readers of a book or a ticker then get a fresh snapshot; trades made in between are missed.",
    yes: "Yes, resync",
  },
  pin: {
    title: ({ topic, category }) => `Pin ${topic} (${category})?`,
    words: "It stays subscribed at the exchange, whether a client reads it or not, also after a restart, until it is unpinned.",
    yes: "Yes, pin",
  },
  unpin: {
    title: ({ topic, category }) => `Unpin ${topic} (${category})?`,
    words: "It is unsubscribed at the exchange when no client reads it any more.",
    yes: "Yes, unpin",
  },
  disconnect: {
    title: ({ address }) => `Disconnect ${address}?`,
    words: "Its connection is closed with code 4110. It may connect again.",
    yes: "Yes, disconnect",
    isDestructive: true,
  },
});

/** Asks before it acts, in one dialog that all actions share. */
export class Actions {
  #dialog;
  #base;
  #told;
  #pending = null;

  /**
   * @param {HTMLDialogElement} dialog with a form that holds the CSRF token, an h2, a p and two buttons
   * @param {URL} base the page's address, below which the actions are
   * @param {(isDone: boolean, words: string) => void} told called with each answer
   */
  constructor(dialog, base, told) {
    this.#dialog = dialog;
    this.#base = base;
    this.#told = told;
    dialog.addEventListener("close", () => {
      const pending = this.#pending;
      this.#pending = null;
      if (dialog.returnValue === "yes" && pending !== null) this.#act(pending.name, pending.fields);
    });
  }

  /**
   * Ask whether this is meant, and do it.
   *
   * @param {string} name of the action
   * @param {object} item what the row shows
   * @param {Record<string, string>} fields what the server is told
   */
  ask(name, item, fields) {
    const action = ACTIONS[name];
    const [title, words] = this.#dialog.querySelectorAll("h2, p");
    const yes = this.#dialog.querySelector("button[value=yes]");
    title.textContent = action.title(item);
    words.textContent = action.words;
    yes.textContent = action.yes;
    yes.classList.toggle("live-destructive", action.isDestructive === true);
    this.#pending = { name, fields };
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
  }

  async #act(name, fields) {
    /** @type {HTMLInputElement} */
    const { value: token } = this.#dialog.querySelector("input[name=csrfmiddlewaretoken]");
    try {
      const answer = await fetch(new URL(`${name}/`, this.#base), {
        method: "POST",
        headers: { Accept: "application/json", "X-CSRFToken": token },
        body: new URLSearchParams(fields),
        redirect: "error", // to the login page: that is not an answer
        signal: AbortSignal.timeout(10_000),
      });
      const body = await answer.json().catch(() => ({}));
      if (answer.ok && body.done) this.#told(true, String(body.message ?? "Done."));
      else this.#told(false, this.#refusal(answer.status, body));
    } catch (error) {
      const words = error.name === "TimeoutError" ? "the server does not answer" : "the server cannot be reached, or you are no longer signed in";
      this.#told(false, `Nothing was done: ${words}.`);
    }
  }

  #refusal(status, body) {
    const words = body.error?.message ?? `the server answered ${status}`;
    return `Nothing was done: ${words}`;
  }
}
