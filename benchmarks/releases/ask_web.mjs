// node ask_web.mjs QUESTIONS.json ENGINE BUILD: answers with a build of onnxruntime-web's wasm, in Node. ENGINE is the
// package's folder dist, BUILD the stem of the wasm's files in it. Lines and answers are those of ask.py.
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [questions, engine, build] = process.argv.slice(2);
const { cases, heads, width } = JSON.parse(await readFile(questions, "utf8"));
const url = (name) => pathToFileURL(join(engine, name)).href;
const ort = await import(url("ort.node.min.mjs")); // the package's own entry for Node
ort.env.wasm.wasmPaths = { mjs: url(`${build}.mjs`), wasm: url(`${build}.wasm`) };
ort.env.wasm.numThreads = 1;

/** Rows of numbers as an int64 tensor. */
function int64(rows) {
  return new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
}

/** Position ids of a mask: 0, 1, 2, ... from the first real token on, 1 at padding. */
function positionsOf(mask) {
  return mask.map((row) => {
    let next = 0;
    return row.map((real) => (real ? next++ : 1));
  });
}

/** The logits [rows][length], each a Float32Array, of one question. */
async function logitsOf(session, { ids, mask, prompt }) {
  const positions = positionsOf(mask);
  const past = session.inputNames.filter((name) => name.startsWith("past_key_values"));
  const nothing = () => new ort.Tensor("float32", [], [ids.length, heads, 0, width]);
  let cache = Object.fromEntries(past.map((name) => [name, nothing()]));
  const found = ids.map(() => []);
  for (let begin = 0, end = prompt; begin < ids[0].length; begin = end, end += 1) {
    const part = (rows, from) => int64(rows.map((row) => row.slice(from, end)));
    const own = { input_ids: part(ids, begin), attention_mask: part(mask, 0), position_ids: part(positions, begin) };
    const result = await session.run({ ...own, ...cache });
    cache = Object.fromEntries(past.map((name) => [name, result[name.replace("past_key_values", "present")]]));
    const { data, dims: [, length, words] } = result.logits;
    found.forEach((row, i) => {
      for (let at = i * length; at < (i + 1) * length; at += 1) row.push(data.slice(at * words, (at + 1) * words));
    });
  }
  return found;
}

async function reply({ model, answers }) {
  let stage = "load";
  try {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
    const session = await ort.InferenceSession.create(await readFile(model), options);
    stage = "run";
    await writeFile(answers, "");
    for (const question of cases) {
      for (const row of await logitsOf(session, question)) {
        for (const values of row) await appendFile(answers, new Uint8Array(values.buffer));
      }
    }
    await session.release();
    return {};
  } catch (error) {
    return { error: String(error), stage };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await reply(JSON.parse(line)))}\n`);
}
