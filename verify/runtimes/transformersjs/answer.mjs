// Answers the questions with Transformers.js. The same code runs in Node and in a browser's page, so that a difference
// between the two is one of the runtimes and not of the tests. It judges nothing: verify/interop/comparator.py does.

/** A logits processor that changes nothing; `top` fills with each step's likeliest tokens, [rows][steps][k] of [id, logit]. */
function watcher(count, top) {
  return (_ids, logits) => {
    const [rows, vocabulary] = logits.dims;
    for (let row = 0; row < rows; row += 1) {
      (top[row] ??= []).push(likeliest(logits.data.subarray(row * vocabulary, (row + 1) * vocabulary), count));
    }
    return logits;
  };
}

function likeliest(values, count) {
  const best = [];
  let least = -Infinity;
  for (let token = 0; token < values.length; token += 1) {
    const value = values[token];
    if (!Number.isFinite(value)) throw new Error(`logit of token ${token} is ${value}`);
    if (best.length === count && value <= least) continue;
    const place = best.findIndex((entry) => value > entry[1]);
    best.splice(place < 0 ? best.length : place, 0, [token, value]);
    best.length = Math.min(best.length, count);
    least = best.at(-1)[1];
  }
  return best;
}

/** Rows of numbers as an int64 tensor. */
function integers(Tensor, rows) {
  return new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
}

/** Of every position of each row the likeliest tokens: in one pass over the prompt, then as the given tokens follow. */
async function forced({ Tensor, DynamicCache }, model, { rows, given }, count) {
  const longest = Math.max(...rows.map((row) => row.length));
  const padded = rows.map((row) => [...Array(longest - row.length).fill(0), ...row]); // on the left, as above
  const mask = rows.map((row) => [...Array(longest - row.length).fill(0), ...Array(row.length).fill(1)]);
  const top = rows.map(() => []);
  const cache = new DynamicCache();
  for (let read = 0, end = longest - given; end <= longest; read = end, end += 1) {
    const outputs = await model({
      input_ids: integers(Tensor, padded.map((row) => row.slice(read, end))),
      attention_mask: integers(Tensor, mask.map((row) => row.slice(0, end))),
      past_key_values: cache,
    });
    const { data, dims: [, size, vocabulary] } = outputs.logits;
    for (const [row, own] of top.entries()) {
      for (let at = 0; at < size; at += 1) {
        if (mask[row][read + at] === 0) continue;
        const start = (row * size + at) * vocabulary;
        own.push(likeliest(data.subarray(start, start + vocabulary), count));
      }
    }
    const present = Object.entries(outputs).filter(([name]) => name.startsWith("present."));
    cache.update(Object.fromEntries(present.map(([name, value]) => [name.replace("present", "past_key_values"), value])));
  }
  await cache.dispose();
  return top;
}

/** Rows of an int64 tensor as numbers. */
function numbers(tensor) {
  return tensor.tolist().map((row) => row.map(Number));
}

/**
 * @param library Transformers.js, its `env` already set
 * @param questions what verify/interop/questions.py asks; `model` is the name of the model's directory
 * @param options `dtype`, and what else `from_pretrained` takes
 */
export async function answer(library, questions, options) {
  const { AutoTokenizer, AutoModelForCausalLM } = library;
  const tokenizer = await AutoTokenizer.from_pretrained(questions.model);
  tokenizer.padding_side = "left"; // as the text-generation pipeline does: a generating model continues the last token
  const strings = questions.strings.map((text) => tokenizer(text, { return_tensor: false }).input_ids.map(Number));
  const model = await AutoModelForCausalLM.from_pretrained(questions.model, options);
  const texts = [];
  for (const group of questions.groups) {
    const inputs = tokenizer(group.texts, { padding: true });
    const top = [];
    const sequences = numbers(
      await model.generate({
        ...inputs,
        max_new_tokens: questions.new_tokens,
        do_sample: false,
        logits_processor: [watcher(questions.stated, top)], // its own class is not exported by every release
      }),
    );
    const ids = numbers(inputs.input_ids);
    const mask = numbers(inputs.attention_mask);
    texts.push({
      ids: ids.map((row, i) => row.filter((_, at) => mask[i][at] === 1)),
      tokens: sequences.map((row, i) => row.slice(ids[i].length)),
      top,
    });
  }
  const lengths = [];
  for (const question of questions.lengths) lengths.push(await forced(library, model, question, questions.stated));
  await model.dispose();
  return { strings, texts, lengths };
}
