// A run: what the model trains on and is measured by, and its rows, as ftkit's loop makes them.

import { Config, OPENING, schedule } from "./config.ts";
import { Example, Pair, pairExample, prompt, some, split, textExample } from "./data.ts";
import { Model, supervised } from "./engine.ts";
import { batches, MersenneTwister } from "./random.ts";
import { Tokenizer } from "./tokenizer.ts";

export interface Samples {
  translation: { train: Pair[]; validation: Pair[] };
  tasks: { train: Pair[]; validation: Pair[] };
  general: { train: string[]; validation: string[] };
}
export interface Row {
  step: number; epoch: number; loss: number; learning_rate: number; grad_norm: number;
  tokens: number; supervised_tokens: number; seconds: number; val_loss?: number; general_loss?: number;
}
export interface Measures { val_loss: number; general_loss: number }
export interface Look {
  /** Answers to the questions, then the continuation of a general text. */
  answers: string[];
  movement: Record<string, number>;
  mask: { tokens: string[]; losses: (number | null)[]; trained: boolean[] }[];
}

/** taught: whether the run trains on it. */
export interface Question { question: string; reference: string; taught: boolean }

const LEAST_TOKENS = 16, MOST_TOKENS = 96, SHOWN = 5, MASKED = 3;

/** Everything that a run reads, encoded. */
export class Experiment {
  readonly train: Example[];
  readonly val: Example[];
  readonly general: Example[];
  readonly questions: Question[];
  private prompts: number[][];
  /** Tokens of an answer: as many as the longest one that is wanted. */
  private longest: number;
  private masked: { example: Example; trained: boolean[] }[];

  constructor(config: Config, samples: Samples, private tokenizer: Tokenizer, own: Pair[]) {
    const given = config.data === "own" ? split(own) : samples[config.data];
    const encode = (pair: Pair) => pairExample(pair, tokenizer, config.loss_on);
    const pairs = config.train_records ? given.train.slice(0, config.train_records) : given.train;
    this.train = pairs.map(encode);
    if (config.replay) {
      const count = roundHalfToEven(this.train.length * config.replay / (1 - config.replay));
      const drawn = MersenneTwister.python(`replay/${config.seed}`).choices(samples.general.train.length, count);
      this.train = [...this.train, ...drawn.map((i) => textExample(samples.general.train[i], tokenizer))];
    }
    const val = some(given.validation, config.eval_records);
    this.val = val.map((pair) => pairExample(pair, tokenizer));
    this.general = some(samples.general.validation, config.eval_records).map((text) => textExample(text, tokenizer));
    const shown = spread(given.validation.filter((pair) => prompt(pair, tokenizer).length < 100), SHOWN);
    const asked = shown.length ? shown : given.validation.slice(0, 1);
    // Where a reader can expect each pair to be known by heart, some that are taught are asked too.
    const taught = config.data === "own" || config.train_records ? spread(pairs, MASKED) : [];
    this.questions = [...asked, ...taught].map((pair, i) => ({ taught: i >= asked.length,
      question: (pair.input ? `${pair.instruction} ${pair.input}` : pair.instruction), reference: pair.output }));
    const lengths = [...asked, ...taught].map((pair) => tokenizer.encode(" " + pair.output.trim()).length + 1);
    this.longest = Math.min(MOST_TOKENS, Math.max(LEAST_TOKENS, ...lengths));
    this.prompts = [...[...asked, ...taught].map((pair) => prompt(pair, tokenizer)), [1, ...tokenizer.encode(OPENING)]];
    this.masked = spread(pairs, MASKED).map((pair) => ({
      example: pairExample(pair, tokenizer, "all"), trained: encode(pair).labels.map((label) => label >= 0) }));
  }

  measure(model: Model): Measures {
    model.merge();
    return { val_loss: model.evaluate(this.val), general_loss: model.evaluate(this.general) };
  }

  /** What the page shows of the model beside its losses. Call `measure` before. */
  look(model: Model): Look {
    const answers = model.continue(this.prompts, this.longest).map((ids) => this.tokenizer.decode(ids).trim());
    const mask = this.masked.map(({ example, trained }) => ({
      tokens: this.tokenizer.pieces(example.ids), trained,
      losses: model.tokenLosses(example).map((loss) => Number.isNaN(loss) ? null : loss) }));
    return { answers, movement: model.movement(), mask };
  }
}

/** n records spread over the list. */
function spread<T>(items: T[], n: number): T[] {
  const step = Math.max(1, items.length / n);
  return Array.from({ length: Math.min(n, items.length) }, (_, i) => items[Math.floor(i * step)]);
}

/** Python's round. */
function roundHalfToEven(x: number): number {
  const whole = Math.round(x);
  return whole - x === 0.5 && whole % 2 ? whole - 1 : whole;
}

/** A run that is taken step by step. */
export class Run {
  step = 0;
  private order: Generator<number[]>;
  private tokens = 0;
  private supervised = 0;
  private seconds = 0;

  constructor(readonly model: Model, readonly config: Config, readonly experiment: Experiment) {
    model.begin(config);
    this.order = batches(experiment.train.length, config.batch_size, config.seed);
  }

  get isFinished() { return this.step >= this.config.max_steps; }

  /** Steps after which an evaluation follows, as in ftkit: ten in a run, and the last. */
  get evaluatesNow() {
    const every = Math.max(1, Math.floor(this.config.max_steps / 10));
    return this.step % every === 0 || this.isFinished;
  }

  /** One optimizer step. The peak learning rate may have been changed since the last. */
  next(learningRate = this.config.learning_rate): Row {
    const { config, experiment } = this, began = performance.now();
    this.step++;
    const rate = learningRate * schedule(this.step, config, this.model.cosine);
    const examples = (this.order.next().value as number[]).map((i) => experiment.train[i]);
    const { loss, grad_norm } = this.model.update(examples, rate, config);
    this.tokens += examples.reduce((sum, e) => sum + e.ids.length, 0);
    this.supervised += supervised(examples);
    this.seconds += (performance.now() - began) / 1000;
    return { step: this.step, epoch: this.step * config.batch_size / experiment.train.length, loss,
      learning_rate: rate, grad_norm, tokens: this.tokens, supervised_tokens: this.supervised, seconds: this.seconds };
  }
}
