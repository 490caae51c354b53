// Every failure the page knows, in words: what happened, and what to do about it.

const MEMORY = /memory|alloc|OOM/i;

const WORDS = {
  altered: (d) => [`${d} is not the file that was published.`, 'Reload the page. If it stays so, the repository is being changed or is damaged.'],
  crashed: (d) => ['The program that runs the model stopped unexpectedly.', `Reload the page and try again, perhaps with smaller weights. ${d}`],
  empty: () => ['There is nothing to continue.', 'Write the beginning of a text first.'],
  failed: (d) => ['The model could not be run.', `Choose other weights or another browser. It said: ${d}`],
  insecure: () => ['This address is not a secure one, so the browser does not let the page check what it loads.', 'Open it over https, or on the machine that serves it (127.0.0.1).'],
  long: (d) => [`The text is ${d.length} tokens long; this model reads at most ${d.context}, what it writes included.`, 'Shorten the text.'],
  memory: () => ['There is not enough memory for these weights.', 'Choose smaller ones, or close other tabs.'],
  missing: (d) => [`${d.name} is not there (${d.status}).`, 'Choose other weights. If none works, the repository is incomplete: publish it again.'],
  offline: () => ['This device is offline.', 'Connect to the network, then try again; what was loaded once is kept.'],
  unreachable: (d) => [`${d} could not be loaded.`, 'Check the connection; a filter may block the address. Then try again.'],
  unsupported: (d) => [`This browser lacks ${d}, which the model needs.`, 'Use a current version of Firefox, Chrome, Edge or Safari.'],
};

export class Problem extends Error {
  constructor(kind, detail = '') {
    super(kind);
    this.kind = kind;
    this.detail = detail;
  }
}

/** Whatever was thrown, as a Problem's kind and detail, which can be sent between threads. */
export function describe(error) {
  if (error instanceof Problem) return { kind: error.kind, detail: error.detail };
  const text = error instanceof Error ? error.message : String(error);
  return MEMORY.test(text) ? { kind: 'memory', detail: '' } : { kind: 'failed', detail: text };
}

/** What happened and what to do: two sentences. */
export function words({ kind, detail }) {
  return WORDS[kind](detail);
}
