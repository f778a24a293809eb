/**
 * When to connect again, by the code that closed the last connection; the relay's own list of
 * codes is `relay/downstream/close_codes.py`.
 *
 * | code | means | next attempt |
 * |---|---|---|
 * | 4000-4099 | fix it | never |
 * | 4100-4199 | too much | later, starting with seconds |
 * | 4200-4299 | moved | at once, if the connection had been of use |
 * | all others | broken | soon, then growing |
 */

const FIRST = 500; // ms: a dropped line is usually back
const LONGEST = 8_000; // ms: a page is right 10 s after its relay is back
const LONGEST_CROWDED = 30_000; // ms, where the relay goes on asking for patience
const CROWDED = 4; // doublings to start with when the relay asks for patience: 4 to 8 s
const AT_ONCE = 250; // ms: spreads the clients of a relay that restarts

/** What to do after a connection ended. */
export const Verdict = Object.freeze({ STOP: "stop", LATER: "later", AT_ONCE: "at once" });

/**
 * @param {number} code the close code, 1006 where none came
 * @returns {string} a `Verdict`
 */
export function verdict(code) {
  if (code >= 4000 && code < 4100) return Verdict.STOP;
  if (code >= 4200 && code < 4300) return Verdict.AT_ONCE;
  return Verdict.LATER;
}

const REASONS = Object.freeze({
  1006: "connection lost",
  1009: "a message was too long",
  1011: "an error of the relay",
  4000: "the relay did not understand the address",
  4002: "nothing was subscribed for too long",
  4003: "this origin may not connect",
  4004: "the relay has no such path: its socket is at /ws",
  4100: "the relay is full",
  4108: "messages were read too slowly",
  4110: "disconnected by an operator",
  4129: "too many requests",
  4200: "the relay is shutting down",
  4201: "the relay lost messages",
});

/** What a close code says, in words: not every server lets the relay's own words through. */
export function reason(code) {
  return REASONS[code] ?? "connection lost";
}

/**
 * How long to wait before the next attempt.
 *
 * @param {number} code the close code
 * @param {number} failures attempts that failed since the last connection of use
 * @param {number} random in [0, 1): the jitter, so that clients do not return in step
 * @returns {number|null} ms, or null: not at all
 */
export function delay(code, failures, random) {
  const kind = verdict(code);
  if (kind === Verdict.STOP) return null;
  if (kind === Verdict.AT_ONCE && failures === 0) return AT_ONCE * random;
  const isCrowded = code >= 4100 && code < 4200;
  const doublings = isCrowded ? failures + CROWDED : failures;
  const longest = Math.min(isCrowded ? LONGEST_CROWDED : LONGEST, FIRST * 2 ** doublings);
  return longest * (0.5 + random / 2);
}
