// The model, in a thread of its own, so that the page stays responsive. Messages in: load, count, write, stop.

import { runtimeOf } from './device.js';
import { download, forgetAllBut } from './download.js';
import { Problem, describe } from './problem.js';
import { truncate } from './sampling.js';

const MOST_THREADS = 4; // more help little with matrices this small, and a phone's other cores are slow ones

let library;
let tokenizer;
let model;
let context;
let stopped = false;

const actions = { load, count, write, stop };

self.addEventListener('message', async ({ data }) => {
  try {
    await actions[data.action](data);
  } catch (error) {
    postMessage({ event: 'problem', problem: describe(error) });
  }
});

/** Load library, tokenizer and the weights of one dtype; `settings` is page.json's content, its URLs absolute. */
async function load({ dtype, device, settings }) {
  const { files, variants } = settings;
  const code = runtimeOf(settings.code, device);
  const weights = variants.find((variant) => variant.dtype === dtype);
  context = settings.context;
  const wanted = [...Object.values(code), ...files, weights];
  await forgetAllBut([...Object.values(settings.code), ...files, ...variants]);
  const loaded = new Map();
  const total = wanted.reduce((sum, file) => sum + file.size, 0);
  const get = (file) =>
    download(file, (bytes) => {
      loaded.set(file.url, bytes);
      postMessage({ event: 'progress', loaded: [...loaded.values()].reduce((a, b) => a + b, 0), total });
    });

  library = await import(url(await get(code.library), 'text/javascript'));
  const { env } = library;
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  env.useBrowserCache = false; // it is looked up by address alone, and would answer with an older publication's file
  env.useWasmCache = false;
  env.backends.onnx.wasm.wasmPaths = { mjs: url(await get(code.glue), 'text/javascript') };
  env.backends.onnx.wasm.wasmBinary = (await get(code.wasm)).buffer;
  env.backends.onnx.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  const listed = new Map([...files, weights].map((file) => [file.name, file]));
  let failure; // the library replaces what env.fetch throws by a message of its own
  env.fetch = async (address) => {
    const file = listed.get(String(address).replace(/^(\.?\/)*model\//, ''));
    if (file === undefined) return new Response(null, { status: 404 }); // optional files, which this model does without
    const bytes = await get(file).catch((error) => {
      failure = error;
      throw error;
    });
    return new Response(bytes, { headers: { 'Content-Length': String(file.size) } });
  };
  env.localModelPath = '/'; // no address: env.fetch finds the file by the name after it
  env.logLevel = library.LogLevel.ERROR;
  try {
    tokenizer = await library.AutoTokenizer.from_pretrained('model');
    model = await library.AutoModelForCausalLM.from_pretrained('model', { dtype, device });
  } catch (error) {
    throw failure ?? error;
  }
  const forward = model.forward.bind(model);
  model.forward = async (inputs) => {
    await messages();
    return forward(inputs);
  };
  postMessage({ event: 'loaded', dtype, device, threads: env.backends.onnx.wasm.numThreads });
}

/** How many tokens a text has. */
function count({ text }) {
  postMessage({ event: 'counted', tokens: lengthOf(tokenizer(text)) });
}

/** Continue a text; each piece is posted as it is written. */
async function write({ text, sampling }) {
  stopped = false;
  const inputs = tokenizer(text);
  const length = lengthOf(inputs);
  if (length === 0) throw new Problem('empty');
  // Transformers.js does not enforce the context limit: past it, the position table has no row and the session fails.
  if (length >= context) throw new Problem('long', { length, context });
  const most = Math.min(sampling.maximum, context - length);
  const times = [performance.now()];
  let last;
  const streamer = new library.TextStreamer(tokenizer, {
    skip_prompt: true,
    callback_function: (piece) => postMessage({ event: 'text', piece }),
    token_callback_function: ([token]) => {
      last = Number(token);
      times.push(performance.now());
      postMessage({ event: 'token', ...figures(times) });
    },
  });
  await model.generate({
    ...inputs,
    max_new_tokens: most,
    do_sample: sampling.temperature > 0,
    temperature: sampling.temperature,
    top_k: sampling.k,
    repetition_penalty: sampling.penalty,
    logits_processor: processors(sampling),
    stopping_criteria: criteria(),
    streamer,
  });
  const ends = [model.generation_config?.eos_token_id ?? model.config.eos_token_id].flat();
  const reason = ends.includes(last) ? 'ended' : stopped ? 'stopped' : most < sampling.maximum ? 'full' : 'limit';
  postMessage({ event: 'written', reason, ...figures(times) });
}

function stop() {
  stopped = true;
}

/** Tokens written; seconds to the first; tokens per second after it. `times`: start, then every token, milliseconds. */
function figures(times) {
  const tokens = times.length - 1;
  const rate = tokens > 1 ? ((tokens - 1) * 1000) / (times[tokens] - times[1]) : null;
  return { tokens, first: tokens > 0 ? (times[1] - times[0]) / 1000 : null, rate };
}

function processors(sampling) {
  class Truncation extends library.LogitsProcessor {
    _call(_, logits) {
      truncate(logits.data, sampling.k, sampling.p);
      return logits;
    }
  }
  const list = new library.LogitsProcessorList();
  if (sampling.temperature > 0) list.push(new Truncation());
  return list;
}

function criteria() {
  class Stop extends library.StoppingCriteria {
    _call(ids) {
      return ids.map(() => stopped);
    }
  }
  return new Stop();
}

function lengthOf({ input_ids: ids }) {
  return ids.dims.at(-1);
}

/** Let waiting messages in: between tokens nothing else would, and "stop" would come after the end. */
function messages() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function url(bytes, type) {
  return URL.createObjectURL(new Blob([bytes], { type }));
}
