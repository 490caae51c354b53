// The form, the text and what is said about them. The model itself runs in worker.js.

import { deviceOf, findAdapter, giveUp, preferred, runtimeOf, whyNot } from './device.js';
import { Problem, describe, words } from './problem.js';

const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);
const WEBGPU = new Set(['crashed', 'failed', 'memory']); // problems that WebAssembly may not have
const ENDS = {
  ended: 'the model ended the text',
  full: 'the context is full',
  limit: 'as many as asked for',
  stopped: 'stopped',
};

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat('en');

let settings;
let worker;
let loaded; // dtype of the weights in the worker
let device; // what the worker was told to run them on
let state = 'idle'; // then loading, writing
let announced = 0;
let counting;

start().catch((error) => show(describe(error)));

async function start() {
  $('facts').textContent = '';
  requireBrowser();
  settings = await readSettings();
  await findAdapter();
  document.title = `Try ${settings.name}`;
  $('name').textContent = settings.name;
  for (const { dtype, size } of settings.variants) $('dtype').add(new Option(`${dtype}, ${bytes(size)}`, dtype));
  $('dtype').value = preferred(settings).dtype;
  $('form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (state === 'idle') write();
  });
  $('run').addEventListener('click', (event) => {
    // Enter in a field clicks this button too, and must not stop what runs.
    if (state === 'idle' || (event.detail === 0 && document.activeElement !== $('run'))) return;
    event.preventDefault();
    stop();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') stop();
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && state === 'idle') $('form').requestSubmit();
  });
  $('prompt').addEventListener('input', count);
  $('dtype').addEventListener('change', refresh);
  $('run').disabled = false;
  refresh();
}

function requireBrowser() {
  if (typeof WebAssembly !== 'object') throw new Problem('unsupported', 'WebAssembly');
  if (!WebAssembly.validate(SIMD)) throw new Problem('unsupported', 'WebAssembly SIMD');
  if (!isSecureContext) throw new Problem('insecure');
}

/** page.json, every path made an absolute URL. */
async function readSettings() {
  const place = new URL('page.json', document.baseURI);
  let response;
  try {
    response = await fetch(place, { cache: 'no-cache' });
  } catch {
    throw navigator.onLine ? new Problem('unreachable', 'page.json') : new Problem('offline');
  }
  if (!response.ok) throw new Problem('missing', { name: 'page.json', status: response.status });
  const found = await response.json();
  const resolved = (file) => ({ ...file, url: new URL(file.url ?? file.name, place).href });
  const code = Object.fromEntries(Object.entries(found.code).map(([role, file]) => [role, resolved(file)]));
  return { ...found, code, files: found.files.map(resolved), variants: found.variants.map(resolved) };
}

function write() {
  const invalid = $('form').querySelector('input:invalid');
  if (invalid !== null) {
    invalid.closest('details').open = true;
    invalid.reportValidity();
    return;
  }
  if ($('prompt').value === '') {
    show({ kind: 'empty', detail: '' });
    $('prompt').focus();
    return;
  }
  $('problem').replaceChildren();
  if (loaded === $('dtype').value) {
    begin();
    return;
  }
  end();
  enter('loading');
  announced = 0;
  worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
  worker.addEventListener('message', ({ data }) => events[data.event](data));
  worker.addEventListener('error', (event) => {
    event.preventDefault();
    if (event.message) fail({ kind: 'crashed', detail: event.message });
    else fail(navigator.onLine ? { kind: 'unreachable', detail: 'assets/worker.js' } : { kind: 'offline' }); // it never ran
  });
  device = deviceOf(chosen());
  worker.postMessage({ action: 'load', dtype: chosen().dtype, device, settings });
}

function begin() {
  enter('writing');
  const paragraph = document.createElement('p');
  const prompt = document.createElement('span');
  prompt.className = 'prompt';
  prompt.textContent = $('prompt').value;
  const text = document.createElement('span');
  text.id = 'text';
  paragraph.append(prompt, text);
  $('output').replaceChildren(paragraph);
  $('output').setAttribute('aria-busy', 'true');
  $('output').scrollIntoView({ block: 'nearest' });
  $('figures').textContent = '';
  say('Writing');
  const sampling = { temperature: value('temperature'), k: value('top-k'), p: value('top-p'), penalty: value('penalty'), maximum: value('maximum') };
  worker.postMessage({ action: 'write', text: $('prompt').value, sampling });
}

const events = {
  progress({ loaded: at, total }) {
    $('progress').value = at / total;
    $('loading-text').textContent = at < total ? `Loading: ${bytes(at)} of ${bytes(total)}` : 'Preparing the model';
    const quarter = Math.floor((at / total) * 4);
    if (quarter > announced && quarter < 4) say(`Loading, ${quarter * 25} percent`); // not every chunk: it is read aloud
    announced = Math.max(announced, quarter);
  },
  loaded({ dtype, threads }) {
    loaded = dtype;
    const place = device === 'webgpu' ? 'WebGPU' : `WebAssembly, ${threads} thread${threads > 1 ? 's' : ''} (${whyNot(chosen())})`;
    $('facts').textContent = `${settings.name}, ${dtype} · ${whole.format(settings.context)} tokens of context · ${place}`;
    begin();
    count();
  },
  text({ piece }) {
    $('text').append(piece);
  },
  token({ tokens, first, rate }) {
    $('figures').textContent = figures(tokens, first, rate);
  },
  written({ reason, tokens, first, rate }) {
    $('figures').textContent = `${figures(tokens, first, rate)} · ${ENDS[reason]}`;
    enter('idle');
    say(`Finished, ${tokens} tokens. ${$('text').textContent}`);
  },
  counted({ tokens }) {
    $('room').textContent = `${whole.format(tokens)} of ${whole.format(settings.context)} tokens`;
    $('room').classList.toggle('over', tokens >= settings.context);
  },
  problem({ problem }) {
    fail(problem);
  },
};

function stop() {
  if (state === 'writing') worker.postMessage({ action: 'stop' });
  if (state === 'loading') {
    end();
    enter('idle');
    say('Loading stopped');
  }
}

function fail(problem) {
  const began = state === 'loading';
  if (device === 'webgpu' && WEBGPU.has(problem.kind)) {
    giveUp(/\D/.test(problem.detail) ? problem.detail : words(problem)[0]); // the runtime may throw a bare number
    if (began) {
      say('WebGPU failed. Loading for WebAssembly');
      write();
      return;
    }
  }
  // What a session leaves behind after a failure is not defined, a question it could not answer changes nothing.
  if (problem.kind !== 'long' && problem.kind !== 'empty') end();
  enter('idle');
  show(problem);
}

/** End the worker; its memory is the browser's again at once. */
function end() {
  worker?.terminate();
  worker = undefined;
  loaded = undefined;
}

function enter(next) {
  state = next;
  document.body.dataset.state = next;
  $('loading').hidden = next !== 'loading';
  $('progress').value = 0;
  $('loading-text').textContent = 'Loading';
  if (next !== 'writing') $('output').removeAttribute('aria-busy');
  refresh();
}

function refresh() {
  const ready = loaded === $('dtype').value;
  const weights = chosen();
  const why = whyNot(weights);
  const rest = [...Object.values(runtimeOf(settings.code, deviceOf(weights))), ...settings.files].reduce((sum, { size }) => sum + size, 0);
  $('run').textContent = { idle: ready ? 'Write' : 'Load and write', loading: 'Cancel', writing: 'Stop' }[state];
  $('dtype').disabled = state !== 'idle';
  $('cost').textContent = ready ? `${weights.name} is loaded` : `${bytes(weights.size + rest)} to load, once: ${weights.name}, tokenizer, runtime; for ${why === undefined ? 'WebGPU' : `WebAssembly: ${why}`}`;
}

/** The weights that are chosen: their entry in page.json. */
function chosen() {
  return settings.variants.find(({ dtype }) => dtype === $('dtype').value);
}

function count() {
  clearTimeout(counting);
  counting = setTimeout(() => {
    if (loaded !== undefined && state === 'idle') worker.postMessage({ action: 'count', text: $('prompt').value });
  }, 200);
}

function show(problem) {
  const [what, todo] = words(problem);
  const lead = document.createElement('strong');
  lead.textContent = what;
  const paragraph = document.createElement('p');
  paragraph.className = 'problem';
  paragraph.append(lead, ` ${todo}`);
  $('problem').replaceChildren(paragraph);
  $('problem').scrollIntoView({ block: 'nearest' });
}

function say(text) {
  $('status').textContent = text;
}

function figures(tokens, first, rate) {
  const speed = rate === null ? '' : ` · ${number.format(rate)} tokens/s`;
  return `${whole.format(tokens)} token${tokens === 1 ? '' : 's'}${speed} · first after ${number.format(first)} s`;
}

function value(id) {
  return $(id).valueAsNumber;
}

function bytes(count) {
  const [unit, name] = count < 1e6 ? [1e3, 'kB'] : count < 1e9 ? [1e6, 'MB'] : [1e9, 'GB'];
  return `${number.format(count / unit)} ${name}`;
}
