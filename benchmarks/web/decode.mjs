// node decode.mjs ENGINE BUILD THREADS PROMPT STEPS: for every line on stdin, the path of a model, a line of JSON on
// stdout: the seconds of its loading, of a prefill of PROMPT tokens and of each of STEPS greedy tokens in
// onnxruntime-web's wasm; or its error. ENGINE is the package's folder dist, BUILD the stem of the wasm's files in it.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [engine, build, threads, prompt, steps] = process.argv.slice(2);
const url = (name) => pathToFileURL(join(engine, name)).href;
const ort = await import(url("ort.node.min.mjs")); // the package's own entry for Node
ort.env.wasm.wasmPaths = { mjs: url(`${build}.mjs`), wasm: url(`${build}.wasm`) };
ort.env.wasm.numThreads = Number(threads);

/** What `run` gives, and the seconds that it took. */
async function timed(run) {
  const begin = performance.now();
  const result = await run();
  return [result, (performance.now() - begin) / 1000];
}

const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const empty = ({ type, shape }) => new ort.Tensor(type, [], [1, shape[1], 0, shape[3]]);

/** The likeliest token after the last position of logits [1, positions, vocabulary]. */
function likeliest({ data, dims: [, positions, vocabulary] }) {
  const last = data.subarray((positions - 1) * vocabulary);
  return last.reduce((best, value, token) => (value > last[best] ? token : best), 0);
}

async function measure(path) {
  const file = await readFile(path); // a page has fetched it before it loads it
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  const [session, load] = await timed(() => ort.InferenceSession.create(file, options));
  if (ort.env.wasm.numThreads !== Number(threads)) throw new Error(`${ort.env.wasm.numThreads} threads given`);
  const ports = session.inputMetadata.filter(({ name }) => name.startsWith("past_key_values"));
  const cache = Object.fromEntries(ports.map((port) => [port.name, empty(port)]));

  /** One pass over `ids` behind `past` cached tokens, and its greedy choice; the cache has grown. */
  async function pass(ids, past) {
    const feeds = { input_ids: int64(ids), attention_mask: int64(Array(past + ids.length).fill(1)), ...cache };
    if (session.inputNames.includes("position_ids")) feeds.position_ids = int64(ids.map((_, place) => past + place));
    const found = await session.run(feeds);
    for (const name of Object.keys(cache)) cache[name] = found[name.replace("past_key_values", "present")];
    return likeliest(found.logits);
  }

  const length = Number(prompt);
  const [first, prefill] = await timed(() => pass([...Array(length).keys()], 0));
  const decode = [];
  for (let token = first; decode.length < Number(steps); ) {
    const [next, seconds] = await timed(() => pass([token], length + decode.length));
    decode.push(seconds);
    token = next;
  }
  await session.release();
  return { load, prefill, decode, versions: { node: process.version, "onnxruntime-web": ort.env.versions.web } };
}

for await (const path of createInterface({ input: process.stdin })) {
  const answer = await measure(path).catch((error) => ({ error: String(error) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
