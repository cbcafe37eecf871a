// SPDX-License-Identifier: ISC
const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

test('adds', () => assert.strictEqual(1 + 1, 2));
test('timers', async () => {
  const t = Date.now();
  await new Promise((r) => setTimeout(r, 50));
  assert.ok(Date.now() - t >= 49);
});
test('files', async () => {
  const d = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'x-'));
  await fs.promises.writeFile(path.join(d, 'a'), 'text');
  assert.strictEqual(await fs.promises.readFile(path.join(d, 'a'), 'utf8'), 'text');
  await fs.promises.rm(d, { recursive: true });
});
