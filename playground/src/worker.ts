// Trains beside the page, so that it never freezes. Messages go both ways as plain objects.

import type { Config } from "./config.ts";
import type { Pair } from "./data.ts";
import { Model, TOTAL, Weights } from "./engine.ts";
import { Tokenizer } from "./tokenizer.ts";
import { Experiment, Look, Measures, Row, Run, Samples } from "./trainer.ts";
import { unpack } from "./weights.ts";

export interface Loaded { vocabulary: string[]; merges: string[]; samples: Samples }
export type ToWorker =
  | { type: "load"; weights: string; data: string; kernels: string }
  | { type: "preview"; config: Config; own: Pair[] }
  | { type: "begin"; id: number; config: Config; own: Pair[]; steps: number }
  | { type: "go"; steps: number }
  | { type: "pause" }
  | { type: "rate"; learningRate: number };
export type FromWorker =
  | { type: "ready" }
  | { type: "started"; id: number; questions: { question: string; reference: string }[]; measures: Measures; look: Look; trainable: number; total: number; trainRecords: number }
  | { type: "row"; id: number; row: Row; look?: Look }
  | { type: "done"; id: number; memory: number; stopped: string | null }
  | { type: "failed"; message: string };

/** The bytes of a base64 text that was compressed with gzip. */
export async function inflate(base64: string): Promise<Uint8Array> {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
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

let wasm: WebAssembly.Module, weights: Weights, data: Loaded, tokenizer: Tokenizer, model: Model;
let run: Run | undefined, id = 0, allowed = 0, learningRate: number, busy = false;

async function train() {
  if (busy || !run) return;
  busy = true;
  const mine = id;
  while (run && id === mine && allowed > 0 && !run.isFinished) {
    allowed--;
    const row = run.next(learningRate);
    const broken = !Number.isFinite(row.loss) || !Number.isFinite(row.grad_norm);
    let look: Look | undefined;
    if (broken || run.evaluatesNow) {
      Object.assign(row, run.experiment.measure(model));
      look = run.experiment.look(model);
    }
    say({ type: "row", id, row, look });
    if (broken || run.isFinished) {
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
    const [packed, text, kernels] = await Promise.all([message.weights, message.data, message.kernels].map(inflate));
    wasm = await WebAssembly.compile(kernels as BufferSource);
    weights = unpack(packed);
    data = JSON.parse(new TextDecoder().decode(text));
    tokenizer = new Tokenizer(data.vocabulary, data.merges);
    model = new Model(wasm, weights);
    say({ type: "ready" });
  } else if (message.type === "preview") {
    if (run && allowed > 0) return;
    run = undefined;
    const experiment = new Experiment(message.config, data.samples, tokenizer, message.own);
    model.begin(message.config);
    const measures = experiment.measure(model);
    say({ type: "started", id: 0, questions: experiment.questions, measures, look: experiment.look(model),
      trainable: model.trainable, total: TOTAL, trainRecords: experiment.train.length });
  } else if (message.type === "begin") {
    const experiment = new Experiment(message.config, data.samples, tokenizer, message.own);
    id = message.id;
    run = new Run(model, message.config, experiment);
    learningRate = message.config.learning_rate;
    allowed = message.steps;
    const measures = experiment.measure(model);
    say({ type: "started", id, questions: experiment.questions, measures, look: experiment.look(model),
      trainable: model.trainable, total: TOTAL, trainRecords: experiment.train.length });
    train();
  } else if (message.type === "go") { allowed = message.steps; train(); }
  else if (message.type === "pause") allowed = 0;
  else learningRate = message.learningRate;
}

scope.onmessage = (event: MessageEvent<ToWorker>) => {
  handle(event.data).catch((error) => say({ type: "failed", message: String(error?.message ?? error) }));
};
