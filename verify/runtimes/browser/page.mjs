// Runs in the browser's page: Transformers.js on onnxruntime-web's wasm build, everything from this page's own server.
import * as library from "/lib/transformers.min.js";
import { answer } from "/answer.mjs";

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
  const parts = await answer(library, questions, { dtype: questions.dtype, device: "wasm" });
  return { parts, given: env.backends.onnx.wasm.numThreads, isolated: window.crossOriginIsolated };
};
window.ready = true;
