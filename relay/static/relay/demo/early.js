/**
 * Note before the first paint which category the address names: page.css then keeps the room that
 * its ticker takes, and nothing moves when the modules have loaded. It is not a module, so that it
 * runs at once.
 */
document.documentElement.dataset.category = new URLSearchParams(location.search).get("category") ?? "";
