// The model: forward, backward and AdamW from scratch over kernels.wasm, for each method.
//
// Rows of a batch are the tokens of its examples, one after the other, without padding. A prefix
// that all examples share is computed once. In the last layer only rows that predict a supervised
// token are computed. Both give the same loss and gradients as the padded batch.

import { Example, NO_LOSS } from "./data.ts";
import { EOS } from "./tokenizer.ts";
import { MersenneTwister } from "./random.ts";
import type { Config, Method } from "./config.ts";

export const SHAPE = { d: 192, heads: 3, size: 64, ff: 512, layers: 4, vocabulary: 3072, context: 512, eps: 1e-6, theta: 1e4 };
const { d, heads, size, ff, layers, vocabulary } = SHAPE;
const SCALE = 1 / Math.sqrt(size);

/** [outputs, inputs] of the matrices of a layer, in the order of the model. */
export const MATRICES = {
  q_proj: [d, d], k_proj: [d, d], v_proj: [d, d], o_proj: [d, d],
  gate_proj: [ff, d], up_proj: [ff, d], down_proj: [d, ff],
} as const;
export type Matrix = keyof typeof MATRICES;
const MATRIX_NAMES = Object.keys(MATRICES) as Matrix[];
const EMBEDDING = "model.embed_tokens.weight", FINAL_NORM = "model.norm.weight";
const layerName = (l: number) => `model.layers.${l}.`;
export const matrixName = (l: number, m: Matrix) =>
  `${layerName(l)}${/gate|up|down/.test(m) ? "mlp" : "self_attn"}.${m}.weight`;
const norm1 = (l: number) => `${layerName(l)}input_layernorm.weight`;
const norm2 = (l: number) => `${layerName(l)}post_attention_layernorm.weight`;

/** Name and number of weights of every tensor, in the order in which they are stored. */
export const TENSORS: [string, number][] = [
  [EMBEDDING, vocabulary * d],
  ...Array.from({ length: layers }, (_, l): [string, number][] => [
    [norm1(l), d], ...MATRIX_NAMES.map((m): [string, number] => [matrixName(l, m), MATRICES[m][0] * MATRICES[m][1]]), [norm2(l), d],
  ]).flat(),
  [FINAL_NORM, d],
];
export const TOTAL = TENSORS.reduce((sum, [, n]) => sum + n, 0);
export type Weights = Record<string, Float32Array>;

type Pointer = number;
interface Trained { p: Pointer; g: Pointer; m: Pointer; v: Pointer; n: number; decays: boolean }
interface Kernels { [name: string]: (...args: any[]) => any }
interface Plan {
  ids: number[]; positions: number[]; spans: number[]; selected: number[]; selectedPositions: number[];
  selectedSpans: number[]; starts: number[]; targets: number[]; owners: [number, number][];
  probabilities: number; selectedProbabilities: number; longest: number;
}
export interface Measured { loss: number; count: number; tokens: number; each?: [number, number, number][] }

/** Where each token of the examples is computed, and what it attends to. */
function plan(examples: Example[]): Plan {
  const first = examples[0].ids;
  let prefix = 0;
  if (examples.length > 1) {
    const most = Math.min(...examples.map((e) => e.ids.length)) - 1;
    while (prefix < most && examples.every((e) => e.ids[prefix] === first[prefix])) prefix++;
  }
  const ids = first.slice(0, prefix), positions = ids.map((_, t) => t), spans: number[] = [];
  let probabilities = 0;
  const span = (a: number, b: number, c: number) => {
    spans.push(0, a, b, c, probabilities);
    probabilities += heads * (a + c - b);
  };
  for (let t = 0; t < prefix; t++) span(0, 0, t + 1);
  const wanted: [number, number, number, number][] = []; // row, target, example, position
  examples.forEach((example, e) => {
    const start = ids.length - prefix; // row of token t >= prefix is start + t
    const row = (t: number) => t < prefix ? t : start + t;
    for (let t = prefix; t < example.ids.length; t++) {
      span(prefix, start + prefix, start + t + 1);
      ids.push(example.ids[t]); positions.push(t);
    }
    example.labels.forEach((label, t) => { if (t && label !== NO_LOSS) wanted.push([row(t - 1), label, e, t]); });
  });
  wanted.sort((a, b) => a[0] - b[0]);
  const selected: number[] = [], starts: number[] = [];
  wanted.forEach(([row], i) => { if (row !== selected[selected.length - 1]) { selected.push(row); starts.push(i); } });
  starts.push(wanted.length);
  let selectedProbabilities = 0;
  const selectedSpans = selected.flatMap((row) => {
    const [a0, a1, b0, b1] = spans.slice(row * 5, row * 5 + 4), at = selectedProbabilities;
    selectedProbabilities += heads * (a1 - a0 + b1 - b0);
    return [a0, a1, b0, b1, at];
  });
  return {
    ids, positions, spans, selected, selectedSpans, starts, probabilities, selectedProbabilities,
    selectedPositions: selected.map((row) => positions[row]), targets: wanted.map((w) => w[1]),
    owners: wanted.map((w) => [w[2], w[3]]), longest: Math.max(...examples.map((e) => e.ids.length)),
  };
}

/** Groups of examples with at most this many tokens, so that memory stays small. */
const GROUP_TOKENS = 1024;
export function groups(examples: Example[]): Example[][] {
  const out: Example[][] = [];
  let tokens = Infinity;
  for (const example of examples) {
    if (tokens + example.ids.length > GROUP_TOKENS) { out.push([]); tokens = 0; }
    out[out.length - 1].push(example);
    tokens += example.ids.length;
  }
  return out;
}
export const supervised = (examples: Example[]) =>
  examples.reduce((sum, e) => sum + e.labels.filter((y, t) => t && y !== NO_LOSS).length, 0);

export class Model {
  readonly memory: WebAssembly.Memory;
  private k: Kernels;
  private top = 65536; // below it are the constants of the kernels
  private heap: Pointer;
  private base: Record<string, Pointer> = {};
  /** The weights that evaluations read: trained in place by `full`, else merged by `merge`. */
  private now: Record<string, Pointer> = {};
  private head: Pointer;
  private table: Pointer;
  private scratch: Pointer;
  private free: Pointer;
  private method: Method = "full";
  private rank = 0;
  private paddedRank = 0;
  private loraScale = 0;
  private trained: Record<string, Trained> = {};
  private kept: Record<string, Pointer> = {}; // what a linear layer keeps for its gradient
  private beta1 = 1;
  private beta2 = 1;

  constructor(wasm: WebAssembly.Module, weights: Weights) {
    this.memory = new WebAssembly.Memory({ initial: 512 });
    const env = { memory: this.memory, abort() { throw new Error("the kernels stopped"); } };
    this.k = new WebAssembly.Instance(wasm, { env }).exports as Kernels;
    for (const into of [this.base, this.now]) for (const [name, n] of TENSORS) into[name] = this.allocate(n);
    for (const [name] of TENSORS) this.f(this.base[name], weights[name].length).set(weights[name]);
    this.head = this.base[EMBEDDING];
    this.table = this.allocate(SHAPE.context * size);
    this.k.rotaryTable(this.table, SHAPE.context, size / 2, SHAPE.theta);
    this.scratch = this.allocate(vocabulary * d + 6 * vocabulary);
    this.heap = this.free = this.top;
    this.restore();
  }

  // ------------------------------------------------------------------------- memory

  private allocate(n: number): Pointer {
    const p = this.top;
    this.top += (n * 4 + 15) & ~15;
    const missing = this.top - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536) + 64);
    return p;
  }
  private f(p: Pointer, n: number) { return new Float32Array(this.memory.buffer, p, n); }
  private ints(values: ArrayLike<number>): Pointer {
    const p = this.allocate(values.length);
    new Int32Array(this.memory.buffer, p, values.length).set(values);
    return p;
  }
  private zeros(n: number): Pointer { const p = this.allocate(n); this.k.zero(p, n); return p; }

  private restore() {
    for (const [name, n] of TENSORS) this.k.copy(this.now[name], this.base[name], n);
    this.head = this.base[EMBEDDING];
  }

  // ------------------------------------------------------------------------- a run

  /** Start a run from the stored weights. */
  begin(config: Pick<Config, "method" | "r" | "lora_alpha" | "seed">) {
    this.restore();
    this.top = this.heap;
    this.method = config.method;
    this.trained = {};
    this.beta1 = this.beta2 = 1;
    const train = (name: string, p: Pointer, n: number, decays = true) => {
      this.trained[name] = { p, g: this.zeros(n), m: this.zeros(n), v: this.zeros(n), n, decays };
    };
    if (config.method === "full") for (const [name, n] of TENSORS) train(name, this.now[name], n, n > ff);
    if (config.method === "head") {
      this.head = this.allocate(vocabulary * d);
      this.k.copy(this.head, this.base[EMBEDDING], vocabulary * d);
      train("head", this.head, vocabulary * d);
    }
    if (config.method === "ia3") for (let l = 0; l < layers; l++) for (const m of ["k_proj", "v_proj", "down_proj"] as const) {
      const n = m === "down_proj" ? ff : d, p = this.allocate(n);
      this.f(p, n).fill(1);
      train(`${matrixName(l, m)}.l`, p, n);
    }
    if (config.method === "lora") this.beginLora(config);
    this.free = this.top;
  }

  /**
   * Matrices A and B of every layer; the rank is filled up with zeros to a multiple of 8, which
   * stay zeros. A is what `torch.manual_seed(seed)` and peft make: peft draws two nn.Linear
   * (A, then B), then A again.
   */
  private beginLora(config: Pick<Config, "r" | "lora_alpha" | "seed">) {
    const random = MersenneTwister.torch(config.seed), r = this.rank = config.r, wide = this.paddedRank = Math.ceil(r / 8) * 8;
    this.loraScale = config.lora_alpha / r;
    for (let l = 0; l < layers; l++) for (const m of MATRIX_NAMES) {
      const [out, inn] = MATRICES[m], name = matrixName(l, m);
      random.skip(r * inn + out * r);
      const A = this.zeros(wide * inn), B = this.zeros(out * wide);
      this.f(A, r * inn).set(random.uniform(r * inn, 1 / Math.sqrt(inn)));
      for (const [key, p, n] of [["A", A, wide * inn], ["B", B, out * wide]] as const) {
        this.trained[`${name}.${key}`] = { p, n, g: this.zeros(n), m: this.zeros(n), v: this.zeros(n), decays: true };
      }
    }
  }

  /** Parameters that are trained; zeros that fill a rank do not count. */
  get trainable(): number {
    const all = Object.values(this.trained).reduce((sum, t) => sum + t.n, 0);
    return this.method === "lora" ? all / this.paddedRank * this.rank : all;
  }

  /** Mean loss of some examples, and its gradients by name, for the tests. */
  gradients(examples: Example[]): { loss: number; gradients: Record<string, Float32Array> } {
    const { loss, count } = this.accumulate(examples), all = Object.entries(this.trained);
    return { loss: loss / count, gradients: Object.fromEntries(all.map(([name, t]) => [name, this.f(t.g, t.n).slice()])) };
  }

  /** Views of the trained numbers, valid until the next step. */
  parameters(): Record<string, Float32Array> {
    return Object.fromEntries(Object.entries(this.trained).map(([name, t]) => [name, this.f(t.p, t.n)]));
  }

  /** Sum of the losses; the gradients of their mean are left in `trained`. */
  private accumulate(examples: Example[]): Measured {
    const count = supervised(examples);
    for (const t of Object.values(this.trained)) this.k.zero(t.g, t.n);
    let loss = 0, tokens = 0;
    for (const group of groups(examples)) loss += this.pass(group, 1 / count).loss;
    for (const example of examples) tokens += example.ids.length;
    return { loss, count, tokens };
  }

  /** One optimizer step: loss and gradient norm (before clipping) are those of ftkit's rows. */
  update(examples: Example[], learningRate: number, config: Pick<Config, "weight_decay" | "max_grad_norm">) {
    const { loss, count, tokens } = this.accumulate(examples), all = Object.values(this.trained);
    const norm = Math.sqrt(all.reduce((sum, t) => sum + this.k.squares(t.g, t.n), 0));
    const limit = config.max_grad_norm, clip = limit && !(norm <= limit) ? limit / (norm + 1e-6) : 1;
    this.beta1 *= 0.9; this.beta2 *= 0.999;
    for (const t of all) {
      const keep = 1 - learningRate * (t.decays ? config.weight_decay : 0);
      this.k.adamw(t.p, t.g, t.m, t.v, t.n, clip, keep, learningRate / (1 - this.beta1), Math.sqrt(1 - this.beta2));
    }
    return { loss: loss / count, grad_norm: norm, tokens, supervised_tokens: count };
  }

  // ------------------------------------------------------------------------- layers

  private gradient(name: string): Pointer { return this.trained[name]?.g ?? 0; }

  /** y = x W^T as it is trained. */
  private linear(w: Record<string, Pointer>, l: number, m: Matrix, x: Pointer, y: Pointer, n: number, training: boolean) {
    const [out, inn] = MATRICES[m], name = matrixName(l, m), k = this.k, S = this.scratch;
    const scale = training ? this.trained[`${name}.l`] : undefined;
    if (scale && m === "down_proj") {
      const scaled = this.kept[name] = this.allocate(n * inn);
      k.scaleColumns(x, scale.p, scaled, n, inn);
      x = scaled;
    }
    k.gemm(x, inn, 1, w[name], 1, inn, y, n, out, inn, 1, false, S);
    if (scale && m !== "down_proj") {
      const plain = this.kept[name] = this.allocate(n * out);
      k.copy(plain, y, n * out);
      k.scaleColumns(y, scale.p, y, n, out);
    }
    if (!training || this.method !== "lora") return;
    const r = this.paddedRank, u = this.kept[name] = this.allocate(n * r);
    k.gemm(x, inn, 1, this.trained[`${name}.A`].p, 1, inn, u, n, r, inn, 1, false, S);
    k.gemm(u, r, 1, this.trained[`${name}.B`].p, 1, r, y, n, out, r, this.loraScale, true, S);
  }

  /** Gradients of what is trained in this layer; dx (+)= dy W unless dx is 0. dy may be scaled. */
  private linearBack(w: Record<string, Pointer>, l: number, m: Matrix, x: Pointer, dy: Pointer, dx: Pointer, n: number, accumulate: boolean) {
    const [out, inn] = MATRICES[m], name = matrixName(l, m), k = this.k, S = this.scratch;
    const scale = this.trained[`${name}.l`];
    if (scale && m !== "down_proj") {
      k.columnDots(dy, this.kept[name], scale.g, n, out);
      k.scaleColumns(dy, scale.p, dy, n, out);
    }
    if (dx) k.gemm(dy, out, 1, w[name], inn, 1, dx, n, inn, out, 1, accumulate, S);
    if (scale && m === "down_proj") {
      k.columnDots(dx, x, scale.g, n, inn);
      k.scaleColumns(dx, scale.p, dx, n, inn);
    }
    if (this.method === "full") k.gemm(dy, 1, out, x, inn, 1, this.trained[name].g, out, inn, n, 1, true, S);
    if (this.method !== "lora") return;
    const r = this.paddedRank, s = this.loraScale, u = this.kept[name], du = this.allocate(n * r);
    const A = this.trained[`${name}.A`], B = this.trained[`${name}.B`];
    k.gemm(dy, 1, out, u, r, 1, B.g, out, r, n, s, true, S);
    k.gemm(dy, out, 1, B.p, r, 1, du, n, r, out, s, false, S);
    k.gemm(du, 1, r, x, inn, 1, A.g, r, inn, n, 1, true, S);
    if (dx) k.gemm(du, r, 1, A.p, inn, 1, dx, n, inn, r, 1, true, S);
  }

  /** Sum of the losses. With a scale, gradients of scale * sum are added to `trained`. */
  private pass(examples: Example[], scale: number, each = false): Measured {
    this.top = this.free;
    this.kept = {};
    const k = this.k, p = plan(examples), N = p.ids.length, R = p.selected.length, training = scale !== 0;
    if (!R) return { loss: 0, count: 0, tokens: N, each: [] };
    // During an evaluation the merged weights are read; the head is the trained one in either case.
    const w = training && this.method !== "full" ? this.base : this.now;
    const head = this.method === "head" ? this.head : w[EMBEDDING];
    const ids = this.ints(p.ids), positions = this.ints(p.positions), spans = this.ints(p.spans);
    const selected = this.ints(p.selected), selectedPositions = this.ints(p.selectedPositions);
    const selectedSpans = this.ints(p.selectedSpans), starts = this.ints(p.starts), targets = this.ints(p.targets);
    const F = (n: number) => this.allocate(n);
    let x = F(N * d);
    k.gather(w[EMBEDDING], ids, x, N, d);
    const tape: Record<string, number>[] = [];
    // An evaluation needs no layer again: each takes the memory of the one before.
    const between = training ? 0 : F(N * d), layerTop = this.top;
    for (let l = 0; l < layers; l++) {
      const last = l === layers - 1, n = last ? R : N;
      const b: Record<string, number> = { x, n };
      b.h = F(N * d); b.r1 = F(N); b.k = F(N * d); b.v = F(N * d);
      k.rmsNorm(x, w[norm1(l)], b.h, b.r1, N, d, SHAPE.eps);
      this.linear(w, l, "k_proj", b.h, b.k, N, training);
      this.linear(w, l, "v_proj", b.h, b.v, N, training);
      b.hq = b.h; b.xq = x; b.spans = spans; b.positions = positions;
      if (last) {
        b.hq = F(R * d); b.xq = F(R * d); b.spans = selectedSpans; b.positions = selectedPositions;
        k.gather(b.h, selected, b.hq, R, d); k.gather(x, selected, b.xq, R, d);
      }
      b.q = F(n * d); b.o = F(n * d); b.p = F(last ? p.selectedProbabilities : p.probabilities);
      this.linear(w, l, "q_proj", b.hq, b.q, n, training);
      k.rotate(b.q, b.positions, this.table, SHAPE.context, n, heads, size / 2, 1);
      k.rotate(b.k, positions, this.table, SHAPE.context, N, heads, size / 2, 1);
      k.attend(b.q, b.k, b.v, b.o, b.p, b.spans, n, heads, size, SCALE);
      b.y = F(n * d);
      this.linear(w, l, "o_proj", b.o, b.y, n, training);
      k.add(b.y, b.xq, n * d);
      b.h2 = F(n * d); b.r2 = F(n); b.gate = F(n * ff); b.up = F(n * ff); b.act = F(n * ff);
      k.rmsNorm(b.y, w[norm2(l)], b.h2, b.r2, n, d, SHAPE.eps);
      this.linear(w, l, "gate_proj", b.h2, b.gate, n, training);
      this.linear(w, l, "up_proj", b.h2, b.up, n, training);
      k.swiglu(b.gate, b.up, b.act, n * ff);
      x = F(n * d);
      this.linear(w, l, "down_proj", b.act, x, n, training);
      k.add(x, b.y, n * d);
      tape.push(b);
      if (!training) { k.copy(between, x, n * d); x = between; this.top = layerTop; }
    }
    const hn = F(R * d), rn = F(R), logits = F(R * vocabulary), losses = F(p.targets.length);
    k.rmsNorm(x, w[FINAL_NORM], hn, rn, R, d, SHAPE.eps);
    k.gemm(hn, d, 1, head, 1, d, logits, R, vocabulary, d, 1, false, this.scratch);
    k.crossEntropy(logits, starts, targets, losses, R, vocabulary, scale);
    const values = this.f(losses, p.targets.length);
    let loss = 0;
    for (const value of values) loss += value;
    const measured: Measured = { loss, count: p.targets.length, tokens: N };
    if (each) measured.each = p.owners.map(([e, t], i) => [e, t, values[i]]);
    if (training) this.backward(p, w, tape, { x, hn, rn, logits, ids, selected, positions });
    return measured;
  }

  private backward(p: Plan, w: Record<string, Pointer>, tape: Record<string, number>[], at: Record<string, Pointer>) {
    const k = this.k, N = p.ids.length, R = p.selected.length, F = (n: number) => this.allocate(n);
    const full = this.method === "full", headGradient = full ? this.gradient(EMBEDDING) : this.gradient("head");
    if (headGradient) k.gemm(at.logits, 1, vocabulary, at.hn, d, 1, headGradient, vocabulary, d, R, 1, true, this.scratch);
    if (this.method === "head") return;
    const dhn = F(R * d), dact = F(N * ff), dh = F(N * d), dq = F(N * d), dk = F(N * d), dv = F(N * d), tmp = F(SHAPE.context);
    k.gemm(at.logits, vocabulary, 1, w[EMBEDDING], d, 1, dhn, R, d, vocabulary, 1, false, this.scratch);
    let dx = this.zeros(R * d);
    k.rmsNormBack(at.x, w[FINAL_NORM], at.rn, dhn, dx, this.gradient(FINAL_NORM), R, d);
    for (let l = layers - 1; l >= 0; l--) {
      const b = tape[l], n = b.n, last = l === layers - 1, reachesInput = full || l > 0;
      this.linearBack(w, l, "down_proj", b.act, dx, dact, n, false);
      k.swigluBack(b.gate, b.up, dact, n * ff);
      this.linearBack(w, l, "gate_proj", b.h2, b.gate, dh, n, false);
      this.linearBack(w, l, "up_proj", b.h2, b.up, dh, n, true);
      k.rmsNormBack(b.y, w[norm2(l)], b.r2, dh, dx, this.gradient(norm2(l)), n, d);
      this.linearBack(w, l, "o_proj", b.o, dx, dh, n, false); // dh: the gradient of o
      k.zero(dq, n * d); k.zero(dk, N * d); k.zero(dv, N * d);
      k.attendBack(b.q, b.k, b.v, dh, b.p, dq, dk, dv, b.spans, n, heads, size, SCALE, tmp);
      k.rotate(dq, b.positions, this.table, SHAPE.context, n, heads, size / 2, -1);
      k.rotate(dk, at.positions, this.table, SHAPE.context, N, heads, size / 2, -1);
      const into = reachesInput ? dh : 0;
      this.linearBack(w, l, "k_proj", b.h, dk, into, N, false);
      this.linearBack(w, l, "v_proj", b.h, dv, into, N, true);
      if (last) { // back from the selected rows to all
        const dhq = F(R * d), all = this.zeros(N * d);
        this.linearBack(w, l, "q_proj", b.hq, dq, dhq, R, false);
        k.scatterAdd(dh, at.selected, dhq, R, d);
        k.scatterAdd(all, at.selected, dx, R, d);
        dx = all;
      } else this.linearBack(w, l, "q_proj", b.h, dq, into, N, true);
      if (reachesInput) k.rmsNormBack(b.x, w[norm1(l)], b.r1, dh, dx, this.gradient(norm1(l)), N, d);
    }
    if (full) k.scatterAdd(this.gradient(EMBEDDING), at.ids, dx, N, d);
  }

  // ------------------------------------------------------------------------- evaluation

  /** Write the adapter into the weights that evaluations read. */
  merge() {
    const k = this.k;
    if (this.method !== "lora" && this.method !== "ia3") return;
    for (let l = 0; l < layers; l++) for (const m of MATRIX_NAMES) {
      const [out, inn] = MATRICES[m], name = matrixName(l, m), to = this.now[name], from = this.base[name];
      if (this.method === "ia3") {
        const scale = this.trained[`${name}.l`];
        if (!scale) continue;
        if (m === "down_proj") k.scaleColumns(from, scale.p, to, out, inn); else k.scaleRows(from, scale.p, to, out, inn);
      } else {
        k.copy(to, from, out * inn);
        k.gemm(this.trained[`${name}.B`].p, this.paddedRank, 1, this.trained[`${name}.A`].p, inn, 1, to, out, inn, this.paddedRank, this.loraScale, true, this.scratch);
      }
    }
  }

  /** A copy of the weights that evaluations read, for another Model to `load`. Call `merge` before. */
  snapshot(): Float32Array<ArrayBuffer> {
    const head = this.method === "head" ? vocabulary * d : 0, out = new Float32Array(TOTAL + head);
    out.set(this.f(this.now[EMBEDDING], TOTAL)); // the tensors are next to each other
    if (head) out.set(this.f(this.head, head), TOTAL);
    return out;
  }

  /** The stored weights, for a Model in another worker. */
  stored(): Weights {
    return Object.fromEntries(TENSORS.map(([name, n]) => [name, this.f(this.base[name], n).slice()]));
  }

  /** Take the weights of a `snapshot`, to evaluate them. */
  load(snapshot: Float32Array) {
    this.f(this.now[EMBEDDING], TOTAL).set(snapshot.subarray(0, TOTAL));
    this.top = this.heap;
    this.trained = {};
    this.method = snapshot.length > TOTAL ? "head" : "full";
    if (this.method === "head") {
      this.head = this.allocate(vocabulary * d);
      this.f(this.head, vocabulary * d).set(snapshot.subarray(TOTAL));
    }
    this.free = this.top;
  }

  /** Mean loss over all supervised tokens. Call `merge` before. */
  evaluate(examples: Example[]): number {
    let loss = 0, count = 0;
    for (const group of groups(examples)) { const m = this.pass(group, 0); loss += m.loss; count += m.count; }
    return loss / count;
  }

  /** The loss of each supervised token of one example, by its index; nan where there is none. */
  tokenLosses(example: Example): number[] {
    const out = example.ids.map(() => NaN);
    for (const [, t, loss] of this.pass([example], 0, true).each!) out[t] = loss;
    return out;
  }

  /** Greedy continuations until EOS or `most` new tokens, all prompts together, with a cache. */
  continue(prompts: number[][], most: number): number[][] {
    const k = this.k, w = this.now, B = Math.ceil(prompts.length / 2) * 2, F = (n: number) => this.allocate(n);
    const head = this.method === "head" ? this.head : w[EMBEDDING];
    this.top = this.free;
    const rows = prompts.map((ids) => [...ids]), answers = prompts.map((): number[] => []), done = prompts.map(() => false);
    const length = Math.min(SHAPE.context, Math.max(...prompts.map((ids) => ids.length)) + most);
    const caches = Array.from({ length: layers }, () => ({ k: F(B * length * d), v: F(B * length * d) }));
    const x = this.zeros(B * d), h = F(B * d), r = F(B), q = F(B * d), kv = F(B * d), o = F(B * d), act = F(B * ff), gate = F(B * ff), up = F(B * ff);
    const logits = F(B * vocabulary), spans = F(B * 5), positions = F(B), ids = F(B), P = F(B * heads * length);
    for (let t = 0; t < length && done.includes(false); t++) {
      const current = Array.from({ length: B }, (_, b) => rows[b]?.[Math.min(t, rows[b].length - 1)] ?? 0);
      new Int32Array(this.memory.buffer, ids, B).set(current);
      new Int32Array(this.memory.buffer, positions, B).fill(t);
      new Int32Array(this.memory.buffer, spans, B * 5).set(current.flatMap((_, b) => [0, 0, b * length, b * length + t + 1, b * heads * length]));
      k.gather(w[EMBEDDING], ids, x, B, d);
      for (let l = 0; l < layers; l++) {
        const cache = caches[l], W = (m: Matrix) => w[matrixName(l, m)];
        k.rmsNorm(x, w[norm1(l)], h, r, B, d, SHAPE.eps);
        k.fewRows(h, W("q_proj"), q, B, d, d);
        k.rotate(q, positions, this.table, SHAPE.context, B, heads, size / 2, 1);
        k.fewRows(h, W("k_proj"), kv, B, d, d);
        k.rotate(kv, positions, this.table, SHAPE.context, B, heads, size / 2, 1);
        for (let b = 0; b < B; b++) k.copy(cache.k + (b * length + t) * d * 4, kv + b * d * 4, d);
        k.fewRows(h, W("v_proj"), kv, B, d, d);
        for (let b = 0; b < B; b++) k.copy(cache.v + (b * length + t) * d * 4, kv + b * d * 4, d);
        k.attend(q, cache.k, cache.v, o, P, spans, B, heads, size, SCALE);
        k.fewRows(o, W("o_proj"), h, B, d, d);
        k.add(x, h, B * d);
        k.rmsNorm(x, w[norm2(l)], h, r, B, d, SHAPE.eps);
        k.fewRows(h, W("gate_proj"), gate, B, ff, d);
        k.fewRows(h, W("up_proj"), up, B, ff, d);
        k.swiglu(gate, up, act, B * ff);
        k.fewRows(act, W("down_proj"), h, B, d, ff);
        k.add(x, h, B * d);
      }
      if (!rows.some((row, b) => !done[b] && t >= row.length - 1)) continue;
      k.rmsNorm(x, w[FINAL_NORM], h, r, B, d, SHAPE.eps);
      k.fewRows(h, head, logits, B, vocabulary, d);
      rows.forEach((row, b) => {
        if (done[b] || t < row.length - 1) return;
        const id = k.largest(logits + b * vocabulary * 4, vocabulary);
        if (id === EOS) { done[b] = true; return; }
        row.push(id); answers[b].push(id);
        if (answers[b].length >= most) done[b] = true;
      });
    }
    return answers;
  }

  /** How far each tensor has moved: norm of the change over norm of the start. Call `merge` before. */
  movement(): Record<string, number> {
    const moved: Record<string, number> = {};
    for (const [name, n] of TENSORS) {
      const start = Math.sqrt(this.k.squares(this.base[name], n));
      moved[name] = Math.sqrt(this.k.squaredDistance(this.now[name], this.base[name], n)) / start;
    }
    if (this.method === "head") {
      const n = vocabulary * d, E = this.base[EMBEDDING];
      moved.head = Math.sqrt(this.k.squaredDistance(this.head, E, n)) / Math.sqrt(this.k.squares(E, n));
    }
    return moved;
  }

  cosine = (x: number): number => this.k.cosine(x);
}
