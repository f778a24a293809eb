import assert from "node:assert/strict";
import { test } from "node:test";

import { Meter, Rate } from "../../relay/static/relay/meter.js";
import { CHANGE, FIELDS } from "../../relay/static/relay/demo/strip.js";

const NOW = 1_700_000_000_000;

test("a meter gives the middle of the last seconds and then nothing", () => {
  const meter = new Meter(1_000);
  for (const [index, value] of [5, 900, 7].entries()) meter.add(value, NOW + index);
  assert.equal(meter.median(NOW + 10), 7);
  assert.equal(meter.median(NOW + 5_000), null);
});

test("a rate is per second and starts over with a new count", () => {
  const rate = new Rate();
  assert.deepEqual([rate.look(10, NOW), rate.look(30, NOW + 2_000), rate.look(0, NOW + 3_000)], [null, 10, null]);
});

test("every field of every category survives an empty and a hostile ticker", () => {
  const hostile = new Proxy({}, { get: () => "<img src=x onerror=alert(1)>" });
  for (const [category, fields] of Object.entries(FIELDS)) {
    for (const { label, write } of [...fields, { label: "change", write: CHANGE[category] }]) {
      for (const data of [{}, hostile]) {
        const written = write(data, NOW);
        assert.equal(typeof (written.text ?? written), "string", `${category} ${label}`);
      }
    }
  }
});
