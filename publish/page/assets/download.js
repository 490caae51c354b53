// Files that the page loads: each is listed in page.json with its size and digest, and nothing else is run or read.

import { Problem } from './problem.js';

const CACHE = 'try-it';

/** Drop what an earlier publication left in the browser's cache. */
export async function forgetAllBut(files) {
  const cache = await caches.open(CACHE);
  const current = new Set(files.map(key));
  for (const request of await cache.keys()) if (!current.has(request.url)) await cache.delete(request);
}

/**
 * The bytes of a file {name, url, size, sha256}, from the cache if they were loaded before.
 * @param {(loaded: number) => void} progress is called with the bytes so far
 * @throws {Problem} offline, unreachable, missing or altered
 */
export async function download(file, progress) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key(file));
  if (kept !== undefined) {
    const bytes = new Uint8Array(await kept.arrayBuffer());
    if (await matches(bytes, file)) {
      progress(bytes.length);
      return bytes;
    }
    await cache.delete(key(file));
  }
  const bytes = await fetchAll(file, progress);
  if (!(await matches(bytes, file))) throw new Problem('altered', file.name);
  try {
    await cache.put(key(file), new Response(bytes));
  } catch (error) {
    // Full storage or a private window: the next visit downloads again, which is all that the cache would have saved.
    if (!(error instanceof DOMException)) throw error;
  }
  return bytes;
}

async function fetchAll(file, progress) {
  let response;
  try {
    response = await fetch(file.url, { cache: 'no-store' }); // kept in CACHE, by digest, and not twice
  } catch {
    throw navigator.onLine ? new Problem('unreachable', file.name) : new Problem('offline');
  }
  if (!response.ok) throw new Problem('missing', { name: file.name, status: response.status });
  const bytes = allocate(file.size);
  const reader = response.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw navigator.onLine ? new Problem('unreachable', file.name) : new Problem('offline');
    });
    if (done) break;
    if (at + value.length > bytes.length) throw new Problem('altered', file.name);
    bytes.set(value, at);
    at += value.length;
    progress(at);
  }
  if (at < bytes.length) throw new Problem('altered', file.name);
  return bytes;
}

function allocate(size) {
  try {
    return new Uint8Array(size);
  } catch {
    throw new Problem('memory');
  }
}

async function matches(bytes, file) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('') === file.sha256;
}

function key(file) {
  const url = new URL(file.url);
  url.searchParams.set('sha256', file.sha256);
  return url.href;
}
