// Drives the try-it page in headless Chromium and prints what it saw as JSON:
// node try_it.mjs URL CHROMIUM NETLOG PUBLISHED [SHOTS]. PUBLISHED is page.json as it is published.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const [url, executablePath, netlog, publishedSettings, shots] = process.argv.slice(2);
const HOME = new URL('../../publish/page/', import.meta.url);
const { chromium } = createRequire(new URL('package.json', HOME))('playwright-core');

const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-domain-reliability',
    '--no-pings',
    '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    `--log-net-log=${netlog}`,
  ],
});

/** A page of its own context (cache, storage), its console errors, and what it asked for. */
async function open(options = {}, script = undefined) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // a busy machine is no failure
  const errors = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  if (script !== undefined) await page.addInitScript(script);
  await page.goto(url);
  return { page, context, errors };
}

const until = (page, state) => page.waitForFunction((s) => (document.body.dataset.state ?? 'idle') === s, state);
const settled = (page) =>
  page.waitForFunction(() => document.querySelector('#problem p') || (document.body.dataset.state === 'idle' && document.querySelector('#figures').textContent.includes('first')));
const text = (page, selector) => page.locator(selector).innerText();

async function shot(page, name) {
  if (shots !== undefined) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

async function sampling(page, values) {
  await page.evaluate(() => (document.querySelector('details').open = true));
  for (const [id, value] of Object.entries(values)) await page.fill(`#${id}`, String(value));
}

/** After `America`, the embedded model's most probable text repeats itself up to the context's end. */
const ENDLESS = { temperature: 0, penalty: 1, maximum: 240 };

async function variants() {
  const { page, errors, context } = await open();
  await page.waitForSelector('#run:enabled');
  await shot(page, 'desktop-light-start');
  const choices = await page.locator('#dtype option').allInnerTexts();
  const first = await page.inputValue('#dtype');
  await page.evaluate(() => {
    window.pieces = 0;
    new MutationObserver(() => (window.pieces += document.body.dataset.state === 'writing')).observe(document.querySelector('#output'), { childList: true, subtree: true });
  });
  const written = {};
  for (const dtype of ['fp32', 'q8', 'q4']) {
    await page.evaluate(() => (window.pieces = 0));
    await page.selectOption('#dtype', dtype);
    await sampling(page, { temperature: 0, penalty: 1, maximum: 32 });
    await page.click('#run');
    await until(page, 'loading');
    await until(page, 'idle');
    if (await page.locator('#problem p').count()) throw new Error(`${dtype}: ${await text(page, '#problem')}`);
    written[dtype] = {
      text: await page.locator('#text').textContent(),
      figures: await text(page, '#figures'),
      pieces: await page.evaluate(() => window.pieces),
      status: await page.locator('[role=status]').textContent(),
      problem: await text(page, '#problem'),
    };
  }
  const facts = await text(page, '#facts');
  await page.fill('#prompt', 'one two three');
  await page.waitForFunction(() => document.querySelector('#room').textContent.startsWith('3 '), undefined, { timeout: 5000 }).catch(() => undefined);
  const room = await text(page, '#room');
  await shot(page, 'desktop-light-written');
  await context.close();
  return { choices, first, written, facts, room, errors };
}

async function stopping() {
  const { page, errors, context } = await open();
  await page.waitForSelector('#run:enabled');
  await page.selectOption('#dtype', 'q4');
  await page.click('#run'); // while it loads, it can be cancelled
  await until(page, 'loading');
  const cancel = await text(page, '#run');
  await page.click('#run');
  await until(page, 'idle');
  const cancelled = await page.locator('[role=status]').textContent();
  await sampling(page, ENDLESS);
  await page.fill('#prompt', 'America');
  await page.click('#run');
  await page.waitForFunction(() => /^([5-9]|\d\d)/.test(document.querySelector('#figures').textContent));
  const busy = await page.getAttribute('#output', 'aria-busy');
  await page.click('#run');
  await until(page, 'idle');
  const stopped = await text(page, '#figures');
  await sampling(page, { maximum: 5 });
  const before = await page.locator('#figures').textContent();
  await page.click('#run'); // five tokens may be written between two looks at the page
  await page.waitForFunction((old) => document.body.dataset.state === 'idle' && document.querySelector('#figures').textContent !== old, before);
  const again = await text(page, '#figures');
  await context.close();
  return { cancel, cancelled, busy, stopped, again, errors };
}

async function keyboard() {
  const { page, errors, context } = await open();
  await page.waitForSelector('#run:enabled');
  const order = [];
  for (let i = 0; i < 5; i++) {
    await page.keyboard.press('Tab');
    if (i === 0) await page.keyboard.press('Control+A');
    if (i === 0) await page.keyboard.type('America');
    order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.localName));
  }
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter'); // opens the sampling controls
  for (const value of ['0', '50', '1', '1', '6']) {
    await page.keyboard.press('Tab'); // which selects what is in the field
    await page.keyboard.type(value);
  }
  await page.keyboard.press('Enter'); // in a field: begins
  await until(page, 'loading');
  await until(page, 'idle');
  const entered = await text(page, '#figures');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('200');
  for (let i = 0; i < 8; i++) await page.keyboard.press('Shift+Tab');
  const focused = await page.evaluate(() => document.activeElement.id);
  let escaped = '';
  // 200 tokens take two seconds: on a busy machine they may all be written before the key arrives.
  for (let i = 0; i < 5 && !escaped.endsWith('stopped'); i++) {
    await page.keyboard.press('Control+Enter');
    await until(page, 'writing');
    await page.waitForFunction(() => /^([3-9]|\d\d)/.test(document.querySelector('#figures').textContent));
    await page.keyboard.press('Escape');
    await until(page, 'idle');
    escaped = await text(page, '#figures');
  }
  await context.close();
  return { order, entered, focused, escaped, errors };
}

async function problems() {
  const { page, context } = await open();
  await page.waitForSelector('#run:enabled');
  const said = {};
  for (const [name, dtype] of [['missing', 'fp16'], ['altered', 'bnb4'], ['memory', 'uint8']]) {
    await page.selectOption('#dtype', dtype);
    await page.click('#run');
    await settled(page);
    said[name] = await page.getByRole('alert').innerText();
  }
  await shot(page, 'desktop-light-problem');
  await page.selectOption('#dtype', 'q4');
  await page.fill('#prompt', 'word '.repeat(400));
  await page.click('#run');
  await page.waitForFunction(() => document.querySelector('#problem').innerText.includes('long'));
  said.long = await page.getByRole('alert').innerText();
  await page.fill('#prompt', '');
  await page.click('#run');
  said.empty = await page.getByRole('alert').innerText();
  await sampling(page, { 'top-p': 7 });
  await page.evaluate(() => (document.querySelector('details').open = false));
  await page.fill('#prompt', 'We');
  await page.click('#run');
  said.invalid = await page.evaluate(() => [document.querySelector('details').open, document.activeElement.id, document.body.dataset.state]);
  await sampling(page, { ...ENDLESS, 'top-p': 0.9, maximum: 4 });
  await page.fill('#prompt', 'America');
  await page.click('#run'); // none of these keeps it from writing
  await settled(page);
  said.after = [await text(page, '#figures'), await text(page, '#problem')];
  await context.setOffline(true);
  await page.selectOption('#dtype', 'q4f16');
  await page.click('#run');
  await settled(page);
  said.offline = await page.getByRole('alert').innerText();
  await context.close();
  const bare = await open({}, () => delete globalThis.WebAssembly);
  await bare.page.waitForSelector('#problem p');
  said.unsupported = await bare.page.getByRole('alert').innerText();
  await bare.context.close();
  return said;
}

/** The same page on a phone in the dark: nothing may be wider than the screen, and what is pressed is big enough. */
async function phone() {
  const { page, errors, context } = await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2, colorScheme: 'dark' });
  await page.waitForSelector('#run:enabled');
  await shot(page, 'phone-dark-start');
  await sampling(page, { maximum: 40 });
  await page.tap('#run');
  await until(page, 'loading');
  await until(page, 'idle');
  await shot(page, 'phone-dark-written');
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  const button = await page.locator('#run').boundingBox();
  const figures = await text(page, '#figures');
  await context.close();
  return { width, height: button.height, figures, errors };
}

/** With the settings as published, the library comes from the CDN, here played from the npm packages; one is altered. */
async function published() {
  const { page, errors, context } = await open();
  const asked = [];
  await context.route('**/page.json', (route) => route.fulfill({ path: publishedSettings, contentType: 'application/json' }));
  let altered = true;
  await context.route('https://**/*', async (route) => {
    const address = route.request().url();
    asked.push(address);
    const body = await readFile(new URL(address.replace(/^.*\/npm\/(@?[^@]+)@[^/]+/, 'node_modules/$1'), HOME));
    if (altered) body[0] ^= 1;
    await route.fulfill({ body, headers: { 'Access-Control-Allow-Origin': '*', 'Content-Type': 'application/octet-stream' } });
  });
  await page.reload();
  await page.waitForSelector('#run:enabled');
  await page.click('#run');
  await settled(page);
  const refused = await page.getByRole('alert').innerText();
  altered = false;
  await page.click('#run');
  await until(page, 'loading');
  await until(page, 'idle');
  const figures = await text(page, '#figures');
  const first = asked.length;
  await page.reload(); // everything is kept now
  await page.waitForSelector('#run:enabled');
  await page.click('#run');
  await until(page, 'loading');
  await until(page, 'idle');
  const again = asked.length - first;
  await context.close();
  return { asked: [...new Set(asked)], refused, figures, again, errors };
}

const only = process.env.ONLY?.split(',');
const scenarios = { variants, stopping, keyboard, problems, phone, published };
const seen = {};
for (const [name, scenario] of Object.entries(scenarios)) if (!only || only.includes(name)) seen[name] = await scenario();
await browser.close();
console.log(JSON.stringify(seen));
