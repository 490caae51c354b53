// Where the model runs: on WebGPU if the browser offers an adapter and the weights were judged there, else in WebAssembly.

const HALF = 'shader-f16'; // what an adapter needs for weights and sums of 16 bits

let adapter = null;
let failure; // why WebGPU is not tried again

/** Ask the browser for an adapter; without one, nothing is run on WebGPU. */
export async function findAdapter() {
  adapter = (await navigator.gpu?.requestAdapter()) ?? null;
}

/** Run nothing on WebGPU from now on; `reason` is shown. */
export function giveUp(reason) {
  failure = reason;
}

/** Why weights (an entry of page.json) cannot be run on WebGPU here; undefined if they can. */
export function whyNot({ dtype, webgpu }) {
  if (failure !== undefined) return `WebGPU failed: ${failure}`;
  if (adapter === null) return 'this browser offers no WebGPU';
  if (!webgpu) return `${dtype} was not judged on WebGPU`;
  if (/f16|fp16/.test(dtype) && !adapter.features.has(HALF)) return `WebGPU lacks ${HALF} here, which ${dtype} needs`;
  return undefined;
}

/** The device of weights, as Transformers.js calls it. */
export function deviceOf(weights) {
  return whyNot(weights) === undefined ? 'webgpu' : 'wasm';
}

/** The weights that are offered first: WebGPU's default if it can be run there, else WebAssembly's. */
export function preferred({ variants, preferred: byDevice }) {
  const named = (dtype) => variants.find((weights) => weights.dtype === dtype);
  const onWebgpu = named(byDevice.webgpu);
  return onWebgpu !== undefined && deviceOf(onWebgpu) === 'webgpu' ? onWebgpu : (named(byDevice.wasm) ?? variants[0]);
}

/** The code that a device needs: WebGPU's kernels are in a build of their own, twice as big. */
export function runtimeOf({ library, ...code }, device) {
  const own = device === 'webgpu' ? { glue: code.webgpu_glue, wasm: code.webgpu_wasm } : { glue: code.glue, wasm: code.wasm };
  return { library, ...own };
}
