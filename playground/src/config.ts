// The settings of a run: the names, defaults and meanings of ftkit's Config.

export const METHODS = ["full", "lora", "ia3", "head"] as const;
export const SCHEDULES = ["cosine", "linear", "constant", "warmup_stable_decay"] as const;
export const DATA = ["translation", "tasks", "own"] as const;
export type Method = (typeof METHODS)[number];

export interface Config {
  data: (typeof DATA)[number];
  method: Method;
  learning_rate: number;
  batch_size: number;
  max_steps: number;
  warmup_steps: number;
  lr_scheduler_type: (typeof SCHEDULES)[number];
  weight_decay: number;
  max_grad_norm: number;
  r: number;
  lora_alpha: number;
  loss_on: "response" | "all";
  replay: number;
  seed: number;
  /** Training records that are used, 0 for all: a few of them are easily memorized. */
  train_records: number;
  /** Records of each evaluation set, as Experiment(eval_records=...). */
  eval_records: number;
}

/** A general text that the model continues before and after. */
export const OPENING = "The cat";

/** Learning rates that suit this model, as ftkit's LEARNING_RATES for "tiny". */
export const LEARNING_RATES: Record<Method, number> = { full: 1e-3, lora: 5e-3, ia3: 1e-1, head: 5e-3 };

export const DEFAULT: Config = {
  data: "translation", method: "lora", learning_rate: 5e-3, batch_size: 16, max_steps: 30,
  warmup_steps: 0.06, lr_scheduler_type: "cosine", weight_decay: 0, max_grad_norm: 1,
  r: 8, lora_alpha: 16, loss_on: "response", replay: 0, seed: 0, train_records: 0,
  eval_records: 16,
};

const stepsOf = (steps: number, total: number) => steps < 1 ? Math.ceil(steps * total) : Math.floor(steps);
const DECAY_STEPS = 0.2;

/** Fraction of the peak learning rate at a step from 1, as ftkit's `loop.schedule`. */
export function schedule(step: number, config: Config, cosine: (x: number) => number): number {
  const total = config.max_steps, kind = config.lr_scheduler_type;
  let warmup = stepsOf(config.warmup_steps, total);
  if (step <= warmup) return step / warmup;
  if (kind === "constant") return 1;
  if (kind === "warmup_stable_decay") {
    warmup = Math.max(warmup, total - stepsOf(DECAY_STEPS, total));
    if (step <= warmup) return 1;
  }
  const progress = (step - 1 - warmup) / Math.max(1, total - warmup);
  return kind === "linear" ? 1 - progress : 0.5 * (1 + cosine(Math.PI * progress));
}
