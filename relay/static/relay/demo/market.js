/** Which market the page shows, and what its numbers count. */

const STANDARD = { category: "linear", symbol: "BTCUSDT" };
const STEP = /^\d{1,15}(\.\d{1,15})?$/; // a price step that an address may ask for
const QUOTES = ["USDT", "USDC", "USD", "PERP", "BTC", "ETH", "EUR", "BRL", "USDE"];
const COINS = ["BTC", "ETH"]; // those of the quotes that are coins themselves
const USUAL_QUOTES = { spot: "USDT", linear: "USDT", inverse: "USD" };
const INTERVALS = { 60: "1", 300: "5", 900: "15", 3600: "60", 14400: "240", 86400: "D" }; // by seconds
const DATED = /[FHJKMNQUVXZ]\d\d$/; // the month and the year of a future
const KINDS = { spot: "Spot", linear: "Linear", inverse: "Inverse", option: "Option" };

/** Option trades come by base coin; this one's contracts are looked through for a first one. */
export const FIRST_OPTION_COIN = "BTC";

/**
 * The market that an address names; what it does not name, or names wrongly, is the standard.
 *
 * @param {URLSearchParams} query
 * @param {object} markets by category `{depths, depth, symbols}`
 * @returns {{category: string, symbol: string, depth: number, step: string|null}}
 */
export function fromAddress(query, markets) {
  const named = query.get("category");
  const category = Object.hasOwn(markets, named ?? "") ? named : STANDARD.category;
  return completed(
    {
      category,
      symbol: query.get("symbol") ?? firstSymbol(category, markets),
      depth: Number(query.get("depth")),
      step: query.get("step"),
    },
    markets,
  );
}

/** The symbol a category begins with: "" where none is known that will not expire. */
export function firstSymbol(category, markets) {
  return category === STANDARD.category ? STANDARD.symbol : (markets[category].symbols[0] ?? "");
}

/** The market with a depth that its category has, and its symbol as the exchange writes it. */
export function completed({ category, symbol, depth, step = null }, markets) {
  const { depths, depth: usual } = markets[category];
  return {
    category,
    symbol: symbol.trim().toUpperCase(),
    depth: depths.includes(depth) ? depth : usual,
    step: step !== null && STEP.test(step) && Number(step) > 0 ? step : null,
  };
}

/**
 * The symbol that a visitor means: what is typed is completed, and small letters count as large.
 *
 * @param {string} text such as "eth"
 * @param {string} category
 * @param {string[]} known symbols of that category, the most likely first
 * @returns {string} such as "ETHUSDT"; what cannot be completed is left as it is: the exchange decides
 */
export function resolved(text, category, known) {
  const typed = text.trim().toUpperCase();
  const isContract = category === "option" && /-[CP](-USDT)?$/.test(typed);
  if (typed === "" || known.includes(typed) || isContract) return typed;
  const begun = known.find((symbol) => symbol.startsWith(typed));
  if (begun !== undefined) return begun;
  return category === "option" || isWhole(typed) ? typed : typed + USUAL_QUOTES[category];
}

/** Whether a text has the shape of a whole symbol: a coin and its quote, or a dated contract. */
function isWhole(typed) {
  if (typed.includes("-") || DATED.test(typed)) return true;
  const quote = QUOTES.find((name) => typed.endsWith(name));
  const coin = quote === undefined ? "" : typed.slice(0, -quote.length);
  // "ETHBTC" is a pair, and "WBTC" a coin: what quotes prices in coins are a few known ones.
  return COINS.includes(quote) ? coin.length > 2 : coin !== "";
}

/** The market as a query, without what is standard. */
export function toAddress({ category, symbol, depth, step }) {
  const query = new URLSearchParams({ category, symbol, depth });
  if (step !== null) query.set("step", step);
  return `?${query}`;
}

/** What is counted in what, such as `{price: "USDT", size: "BTC", turnover: "USDT"}`; "" where unknown. */
export function unitsOf({ category, symbol }) {
  const [coin] = symbol.split("-");
  if (category === "option") {
    const price = symbol.endsWith("-USDT") ? "USDT" : "USDC";
    return { price, size: coin, turnover: price };
  }
  if (category === "inverse") return { price: "USD", size: "USD", turnover: coin.split("USD")[0] };
  const quote = QUOTES.find((name) => coin.endsWith(name) && coin.length > name.length);
  if (quote === undefined) return { price: "", size: "", turnover: "" };
  const price = quote === "PERP" ? "USDC" : quote;
  return { price, size: coin.slice(0, -quote.length), turnover: price };
}

/** The exchange's name for candles of so many seconds; null where they are made from trades. */
export function intervalOf(category, seconds) {
  return hasCandles(category) ? (INTERVALS[seconds] ?? null) : null;
}

/** Whether the exchange sends candles of a category. */
export function hasCandles(category) {
  return category !== "option";
}

/** What kind of market it is, in a word or two. */
export function kindOf({ category, symbol }) {
  if (category === "linear" || category === "inverse") {
    const isDated = symbol.includes("-") || DATED.test(symbol);
    return `${KINDS[category]} ${isDated ? "future" : "perpetual"}`;
  }
  return KINDS[category];
}
