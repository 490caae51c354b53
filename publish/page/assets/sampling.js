// Transformers.js 4.3.2 samples with temperature and top k, but top p does nothing there. This is what transformers does.

/**
 * Keep the `k` largest logits (0: all), and of these the fewest whose probabilities reach `p`; the others become
 * -Infinity, in place. One is always kept; logits equal to the smallest kept are kept too.
 * @param {Float32Array} logits of one position, temperature applied
 */
export function truncate(logits, k, p) {
  const sorted = Float32Array.from(logits).sort().reverse();
  const candidates = k > 0 ? Math.min(k, sorted.length) : sorted.length;
  let total = 0;
  for (let i = 0; i < candidates; i++) total += Math.exp(sorted[i] - sorted[0]);
  let kept = 0;
  let reached = 0;
  while (kept < candidates && (kept === 0 || reached < p * total)) reached += Math.exp(sorted[kept++] - sorted[0]);
  const least = sorted[kept - 1];
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
}
