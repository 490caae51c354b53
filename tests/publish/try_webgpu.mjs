// Drives the try-it page in a headless Chromium that has WebGPU, and prints what it saw as JSON:
// node try_webgpu.mjs URL CHROMIUM.
import { createRequire } from 'node:module';

const [url, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(new URL('../../publish/page/package.json', import.meta.url))('playwright-core');
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--enable-unsafe-webgpu'] });

/** What the page says and writes with some weights. `worker` is put before the worker's own program. */
async function write(dtype, worker = '') {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(0); // the test bounds the whole
  await context.route('**/worker.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${worker}\n${await response.text()}` });
  });
  await page.goto(url);
  await page.waitForSelector('#run:enabled');
  const first = await page.inputValue('#dtype');
  await page.selectOption('#dtype', dtype);
  const cost = await page.locator('#cost').innerText();
  await page.evaluate(() => (document.querySelector('details').open = true));
  for (const [id, value] of Object.entries({ temperature: 0, penalty: 1, maximum: 8 })) await page.fill(`#${id}`, String(value));
  await page.click('#run');
  await page.waitForFunction(() => document.querySelector('#problem p') || /·.*·/.test(document.querySelector('#figures').textContent));
  await page.waitForFunction(() => document.querySelector('#problem p') || document.body.dataset.state === 'idle');
  const seen = { first, cost };
  for (const id of ['facts', 'figures', 'problem']) seen[id] = await page.locator(`#${id}`).innerText();
  seen.text = await page.evaluate(() => document.querySelector('#text')?.textContent);
  await context.close();
  return seen;
}

const LOST = "GPUAdapter.prototype.requestDevice = () => Promise.reject(new Error('the device is lost'));";
const seen = { used: await write('fp32'), unjudged: await write('q8'), half: await write('fp16'), lost: await write('fp32', LOST) };
await browser.close();
console.log(JSON.stringify(seen));
