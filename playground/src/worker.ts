// Trains beside the page, so that it never freezes. Messages go both ways as plain objects.
//
// Where the machine has several cores, a second worker evaluates copies of the weights while the
// first one trains on. The numbers are the same either way.

import type { Config } from "./config.ts";
import type { Pair } from "./data.ts";
import { Model, TOTAL, Weights } from "./engine.ts";
import { Tokenizer } from "./tokenizer.ts";
import { Experiment, Look, Measures, Question, Row, Run, Samples } from "./trainer.ts";
import { unpack } from "./weights.ts";

export interface Loaded { vocabulary: string[]; merges: string[]; samples: Samples }
export type ToWorker =
  | { type: "load"; weights: string; data: string; kernels: string }
  | { type: "preview"; config: Config; own: Pair[] }
  | { type: "evaluator"; port: MessagePort }
  | { type: "serve"; port: MessagePort }
  | { type: "begin"; id: number; config: Config; own: Pair[]; steps: number }
  | { type: "go"; steps: number }
  | { type: "pause" }
  | { type: "rate"; learningRate: number };
export type FromWorker =
  | { type: "ready" }
  | { type: "started"; id: number; questions: Question[]; measures: Measures; look: Look; trainable: number; total: number; trainRecords: number }
  | { type: "row"; id: number; row: Row; peak: number; look?: Look }
  | { type: "evaluated"; id: number; step: number; measures: Measures; look: Look }
  | { type: "done"; id: number; memory: number; stopped: string | null }
  | { type: "failed"; message: string };

/** The bytes of a base64 text that was compressed with gzip. */
export async function inflate(base64: string): Promise<Uint8Array> {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const scope = self as unknown as { postMessage(message: FromWorker): void; onmessage: unknown };
const say = (message: FromWorker) => scope.postMessage(message);
/** Lets messages in between two steps, without the wait of a timer. */
const breathe = () => new Promise<void>((resolve) => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => resolve();
  channel.port2.postMessage(0);
});

type Order = { kernels: BufferSource; weights: Weights; data: Loaded } | { config: Config; own: Pair[] } | { step: number; snapshot: Float32Array<ArrayBuffer> };
interface Reply { step: number; measures: Measures; look: Look }
const MOST_WAITING = 2; // copies of the weights

let kernels: BufferSource, data: Loaded, tokenizer: Tokenizer, model: Model;
let run: Run | undefined, id = 0, allowed = 0, learningRate: number, busy = false;
let evaluator: MessagePort | undefined, asked: Order | undefined, pending: number[] = [], wake = () => {};
/** What the untrained model gives, by what it was measured on. */
let untrained: { key: string; measures: Measures; look: Look } | undefined;

function begin(config: Config, own: Pair[]) {
  asked = { config, own };
  evaluator?.postMessage(asked);
  const experiment = new Experiment(config, data.samples, tokenizer, own);
  run = new Run(model, config, experiment);
  const key = JSON.stringify([config.data, config.eval_records, config.loss_on, config.train_records, own]);
  if (untrained?.key !== key) untrained = { key, measures: experiment.measure(model), look: experiment.look(model) };
  const { measures, look } = untrained;
  say({ type: "started", id, questions: experiment.questions, measures, look, trainable: model.trainable, total: TOTAL, trainRecords: experiment.train.length });
}

function setUp(weights: Weights, loaded: Loaded) {
  data = loaded;
  tokenizer = new Tokenizer(data.vocabulary, data.merges);
  model = new Model(new WebAssembly.Module(kernels), weights);
}

/** Evaluate what arrives at the port. */
function serve(port: MessagePort) {
  let experiment: Experiment;
  port.onmessage = ({ data: order }: MessageEvent<Order>) => {
    if ("kernels" in order) { kernels = order.kernels; setUp(order.weights, order.data); return; }
    if ("config" in order) { experiment = new Experiment(order.config, data.samples, tokenizer, order.own); return; }
    model.load(order.snapshot);
    const measures = experiment.measure(model);
    port.postMessage({ step: order.step, measures, look: experiment.look(model) } satisfies Reply);
  };
}
function useEvaluator(port: MessagePort) {
  evaluator = port;
  port.postMessage({ kernels, weights: model.stored(), data } satisfies Order);
  if (asked) port.postMessage(asked);
  port.onmessage = ({ data: reply }: MessageEvent<Reply>) => {
    const from = pending.shift()!;
    if (from === id) say({ type: "evaluated", id, ...reply });
    wake();
  };
}
/** Wait until at most this many evaluations are under way. */
async function until(most: number) { while (pending.length > most) await new Promise<void>((resolve) => { wake = resolve; }); }

async function train() {
  if (busy || !run) return;
  busy = true;
  const mine = id;
  while (run && id === mine && allowed > 0 && !run.isFinished) {
    allowed--;
    const peak = learningRate, row = run.next(peak);
    const broken = !Number.isFinite(row.loss) || !Number.isFinite(row.grad_norm);
    let look: Look | undefined;
    const evaluates = broken || run.evaluatesNow;
    if (evaluates && evaluator) {
      await until(MOST_WAITING - 1);
      if (id !== mine || !run) break;
      model.merge();
      const snapshot = model.snapshot();
      pending.push(id);
      evaluator.postMessage({ step: row.step, snapshot } satisfies Order, [snapshot.buffer]);
    } else if (evaluates) {
      Object.assign(row, run.experiment.measure(model));
      look = run.experiment.look(model);
    }
    say({ type: "row", id, row, peak, look });
    if (broken || run.isFinished) {
      await until(0);
      if (id !== mine) break;
      say({ type: "done", id, memory: model.memory.buffer.byteLength, stopped: broken ? "diverged" : null });
      run = undefined;
      break;
    }
    await breathe();
  }
  busy = false;
  if (run && id !== mine && allowed > 0) train();
}

async function handle(message: ToWorker) {
  if (message.type === "load") {
    const [packed, text, code] = await Promise.all([message.weights, message.data, message.kernels].map(inflate));
    kernels = code as BufferSource;
    setUp(unpack(packed), JSON.parse(new TextDecoder().decode(text)));
    say({ type: "ready" });
  } else if (message.type === "preview") {
    if (run && allowed > 0) return;
    id = 0;
    begin(message.config, message.own);
    run = undefined;
  } else if (message.type === "evaluator") useEvaluator(message.port);
  else if (message.type === "serve") serve(message.port);
  else if (message.type === "begin") {
    id = message.id;
    begin(message.config, message.own);
    learningRate = message.config.learning_rate;
    allowed = message.steps;
    train();
  } else if (message.type === "go") {
    allowed = Number.isFinite(allowed) ? allowed + message.steps : message.steps; // several clicks, several steps
    train();
  }
  else if (message.type === "pause") allowed = 0;
  else learningRate = message.learningRate;
}

scope.onmessage = (event: MessageEvent<ToWorker>) => {
  handle(event.data).catch((error) => say({ type: "failed", message: String(error?.message ?? error) }));
};
