// Runs in the browser's page: Transformers.js on onnxruntime-web, everything from this page's own server.
import * as library from "/lib/transformers.min.js";
import { answer } from "/answer.mjs";
import { adapter, counted, hideSubgroups } from "/webgpu.mjs";

window.adapter = adapter;
window.ask = async (questions) => {
  const { env } = library;
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  env.localModelPath = "/";
  env.useBrowserCache = false;
  env.useWasmCache = false;
  const wasm = new URL(`/ort/${questions.wasm}`, location.href).href;
  env.backends.onnx.wasm.wasmPaths = { mjs: `${wasm}.mjs`, wasm: `${wasm}.wasm` };
  env.backends.onnx.wasm.numThreads = questions.threads;
  const { dtype, device } = questions;
  if (questions.hidden) hideSubgroups();
  const own = device === "webgpu" ? { adapter: await adapter(), kernels: counted() } : null;
  const parts = await answer(library, questions, { dtype, device });
  const isolated = window.crossOriginIsolated;
  return { parts, given: env.backends.onnx.wasm.numThreads, isolated, ...(own && { ...own, kernels: own.kernels() }) };
};
window.ready = true;
