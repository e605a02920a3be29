// Judges the playground's engine by reference.json and the gradients that reference.py wrote.
//   node tests/playground/check.mjs FOLDER
// prints one JSON object: name of a check -> {worst, limit}; exit status 1 where one is above its limit.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const top = join(dirname(fileURLToPath(import.meta.url)), "../.."), dist = join(top, "playground/dist"), folder = process.argv[2];
const ft = await import(join(dist, "engine.mjs"));
const buffer = (file) => { const b = readFileSync(file); return b.buffer.slice(b.byteOffset, b.byteOffset + b.length); };
const reference = JSON.parse(readFileSync(join(folder, "reference.json")).toString().replace(/\bNaN\b/g, "null"));
const data = JSON.parse(readFileSync(join(dist, "data.json")));
const wasm = new WebAssembly.Module(buffer(join(dist, "kernels.wasm")));
const tokenizer = new ft.Tokenizer(data.vocabulary, data.merges);
const exact = ft.fromSafetensors(buffer(join(top, "ftkit/model/tiny/model.safetensors")));
const stored = ft.unpack(new Uint8Array(buffer(join(dist, "weights.bin"))));
const model = new ft.Model(wasm, exact);
const checks = {};
const note = (name, worst, limit) => { checks[name] = { worst, limit }; };
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b) ? 0 : 1;

// Text and random numbers
note("token ids", reference.tokens.filter(([text, ids]) => same(tokenizer.encode(text), ids)).length, 0);
note("decoded texts", reference.tokens.filter(([, ids], i) => tokenizer.decode(ids) !== reference.decoded[i]).length, 0);
const { choices, sample, samples } = reference.random, R = ft.MersenneTwister;
note("Python's random numbers", same(R.python("replay/3").choices(1000, 9), choices) + same(R.python(0).sample(50, 16), sample) + same(R.python(0).sample(416, 16), samples), 0);
const torch = R.torch(5);
torch.skip(690);
note("torch's random numbers", Math.max(...torch.uniform(10, 0.5).map((x, i) => Math.abs(x + 0.5 - reference.random.torch[i]))), 1e-7);

// Gradients of the first batch
function tensors(file) {
  const bytes = buffer(file), n = Number(new DataView(bytes).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, n)));
  delete head.__metadata__;
  return Object.fromEntries(Object.entries(head).map(([name, t]) => [name, new Float32Array(bytes.slice(8 + n + t.data_offsets[0], 8 + n + t.data_offsets[1]))]));
}
const NAMES = { ".lora_A.default.weight": ".weight.A", ".lora_B.default.weight": ".weight.B", ".ia3_l.default": ".weight.l" };
const settings = (fields) => ({ ...ft.DEFAULT, ...fields });
for (const method of Object.keys(reference.gradients)) {
  const config = settings({ method }), experiment = new ft.Experiment(config, data.samples, tokenizer, []);
  const batch = ft.batches(experiment.train.length, 16, 0).next().value.map((i) => experiment.train[i]);
  model.begin(config);
  if (method === "lora") for (const [name, values] of Object.entries(model.parameters())) {
    if (name.endsWith(".B")) values.forEach((_, i) => { values[i] = Math.fround(Math.sin(i)) * 0.01; });
  }
  const { loss, gradients } = model.gradients(batch);
  let worst = 0, seen = 0;
  for (let [name, want] of Object.entries(tensors(join(folder, `${method}.safetensors`)))) {
    name = name.replace("base_model.model.", "").replace("lm_head.weight", "head");
    for (const [theirs, ours] of Object.entries(NAMES)) name = name.replace(theirs, ours);
    want.forEach((g, i) => { worst = Math.max(worst, Math.abs(g - gradients[name][i])); });
    seen++;
  }
  note(`gradients of ${method}`, seen === Object.keys(gradients).length ? worst : NaN, 1e-4);
  note(`loss of a batch, ${method}`, Math.abs(loss - reference.gradients[method]), 1e-4);
}

// Whole runs, from the exact weights and from those that the page stores
const COLUMNS = ["loss", "learning_rate", "val_loss", "general_loss"];
function repeat(model, fields, want, pairs = [], steps = want.rows.length) {
  const config = settings(fields), experiment = new ft.Experiment(config, data.samples, tokenizer, pairs);
  const run = new ft.Run(model, config, experiment), first = experiment.measure(model), worst = Object.fromEntries(COLUMNS.map((c) => [c, 0]));
  const compare = (row, theirs) => COLUMNS.forEach((c) => { if (theirs[c] !== undefined) worst[c] = Math.max(worst[c], Math.abs(row[c] - theirs[c])); });
  compare(first, { val_loss: want.before.val_loss, general_loss: want.before.general_loss });
  while (run.step < steps) {
    const row = run.next(), theirs = want.rows[run.step - 1];
    if (run.evaluatesNow) Object.assign(row, experiment.measure(model));
    compare(row, theirs);
    if (theirs.tokens && (theirs.tokens !== row.tokens || theirs.supervised_tokens !== row.supervised_tokens)) worst.loss = NaN;
  }
  return worst;
}
const pageModel = new ft.Model(wasm, stored);
for (const [name, want] of Object.entries(reference.runs)) {
  const worst = repeat(model, want.config, want);
  for (const column of COLUMNS) note(`${column} of ${want.rows.length} steps, ${name}`, worst[column], column === "learning_rate" ? 1e-9 : 1e-3);
  note(`parameters, ${name}`, Math.abs(model.trainable - want.trainable), 0);
  model.merge();
  const answers = model.continue(want.records.map((r) => ft.prompt(r, tokenizer)), 16).map((ids) => tokenizer.decode(ids).trim());
  note(`answers, ${name}`, answers.filter((a, i) => a !== want.answers[i]).length, 0);
  if (want.rows.length < 100) continue;
  const rounded = repeat(pageModel, want.config, want, [], 30);
  note(`stored weights: worst loss of 30 steps, ${name}`, Math.max(rounded.loss, rounded.val_loss, rounded.general_loss), 5e-3);
}
const own = repeat(model, { data: "own", max_steps: 30 }, reference.own, reference.own.pairs);
note("losses of own pairs", Math.max(own.loss, own.val_loss, own.general_loss), 1e-3);

console.log(JSON.stringify(checks, null, 1));
process.exit(Object.values(checks).every(({ worst, limit }) => worst <= limit) ? 0 : 1);
