// node ask_library.mjs QUESTIONS.json ENVIRONMENT: answers with the Transformers.js that is installed in a folder. For
// every line on stdin, {"model": FOLDER, "dtype": NAME, "answers": FILE}, the answers of answer.mjs go to the file, and
// a line of JSON to stdout: {} or {"error": ..., "stage": "load" or "run"}.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { answer } from "../../verify/runtimes/transformersjs/answer.mjs";

const [questionsFile, environment] = process.argv.slice(2);
console.log = console.error; // stdout is for answers
const questions = JSON.parse(await readFile(questionsFile, "utf8"));
const entry = createRequire(join(environment, "package.json")).resolve("@huggingface/transformers");
const module = await import(pathToFileURL(entry).href);
const library = module.default ?? module;
library.env.allowRemoteModels = false;
library.env.useFSCache = false; // it is looked up before local files, and could shadow them

async function reply({ model, dtype, answers }) {
  let stage = "load";
  const { from_pretrained: load } = library.AutoModelForCausalLM;
  const watched = { ...library, AutoModelForCausalLM: { from_pretrained: async (...given) => {
    const loaded = await load.apply(library.AutoModelForCausalLM, given);
    stage = "run";
    return loaded;
  } } };
  try {
    library.env.localModelPath = `${dirname(model)}/`;
    const options = { dtype, local_files_only: true };
    await writeFile(answers, JSON.stringify(await answer(watched, { ...questions, model: basename(model) }, options)));
    return {};
  } catch (error) {
    return { error: String(error), stage };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await reply(JSON.parse(line)))}\n`);
}
