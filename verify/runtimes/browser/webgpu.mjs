// WebGPU as a page finds it: its adapter in words and numbers, and what the judge needs to see of what ran there.

/** The adapter that the page is offered, as onnxruntime-web asks for it; null where there is none. */
export async function adapter() {
  const found = await navigator.gpu?.requestAdapter();
  if (!found) return null;
  const { vendor, architecture, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = found.info;
  const features = [...found.features].sort();
  return { vendor, architecture, description, software: isFallbackAdapter, subgroupMinSize, subgroupMaxSize, features };
}

/** Make every adapter of this page look like one without subgroups, which many are. */
export function hideSubgroups() {
  const prototype = GPUAdapter.prototype;
  const others = (features) => [...features].filter((feature) => !feature.startsWith("subgroup"));
  const { get } = Object.getOwnPropertyDescriptor(prototype, "features");
  Object.defineProperty(prototype, "features", {
    get() {
      return new Set(others(get.call(this)));
    },
  });
  const { requestDevice } = prototype;
  prototype.requestDevice = function (descriptor = {}) {
    return requestDevice.call(this, { ...descriptor, requiredFeatures: others(descriptor.requiredFeatures ?? []) });
  };
}

/** A function that says how many kernels were started since: without one, what answered was the processor. */
export function counted() {
  let count = 0;
  for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) {
    const start = GPUComputePassEncoder.prototype[name];
    GPUComputePassEncoder.prototype[name] = function (...given) {
      count += 1;
      return start.apply(this, given);
    };
  }
  return () => count;
}
