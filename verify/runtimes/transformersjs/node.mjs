// node node.mjs QUESTIONS.json ANSWERS.json: answers with Transformers.js and onnxruntime-node, without a network.
import { readFile, writeFile } from "node:fs/promises";

import * as library from "@huggingface/transformers";

import { answer } from "./answer.mjs";

const [questionsFile, answersFile] = process.argv.slice(2);
const questions = JSON.parse(await readFile(questionsFile, "utf8"));
const { env } = library;
env.allowRemoteModels = false;
env.localModelPath = questions.home;
env.useFSCache = false; // it is looked up before local files, and could shadow them
env.useWasmCache = false;
const options = { dtype: questions.dtype, local_files_only: true };
await writeFile(answersFile, JSON.stringify(await answer(library, questions, options)));
