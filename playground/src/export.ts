// A run as ftkit reads it, and the lines that repeat it in Python.

import { Config, DEFAULT, LEARNING_RATES } from "./config.ts";
import type { PageRun } from "./page.ts";
import type { Look } from "./trainer.ts";

const ONLY_HERE = new Set(["data", "train_records", "eval_records"]);

export function pythonLine(config: Config): string {
  const name = config.data === "own" ? "pairs.jsonl" : config.data;
  const few = config.train_records > 0 && config.data !== "own";
  const data = few ? `ft.records("${name}")[:${config.train_records}], val="${name}"` : `"${name}"`;
  const settings = (Object.keys(DEFAULT) as (keyof Config)[])
    .filter((key) => !ONLY_HERE.has(key) && key !== "learning_rate" && config[key] !== ({ ...DEFAULT, method: "full" } as Config)[key])
    .filter((key) => config.method === "lora" || !/^(r|lora_alpha)$/.test(key))
    .map((key) => `${key}=${JSON.stringify(key === "method" && config.method === "head" ? "full" : config[key])}`);
  if (config.method === "head" || config.learning_rate !== LEARNING_RATES[config.method]) settings.push(`learning_rate=${config.learning_rate}`);
  if (config.max_steps === DEFAULT.max_steps) settings.push(`max_steps=${config.max_steps}`);
  return `import ftkit as ft\n\nlab = ft.Experiment(data=${data}, eval_records=${config.eval_records})\n`
    + `run = lab.run(${[...settings, 'precision="fp32"'].join(", ")})\nft.curves(run)\n`;
}

/** The JSON of `ftkit run --json`. */
export function exported(run: PageRun) {
  const { data, train_records, eval_records, ...config } = run.config, rows = run.rows, end = rows[rows.length - 1];
  const measured = [...rows].reverse().find((row) => row.val_loss !== undefined);
  const notes = ["made in the playground, in a browser"];
  if (config.method === "head") notes.push("only the output matrix was trained, which Config calls by no name; method says full");
  for (const [step, rate] of run.changes) notes.push(`the learning rate was changed to ${rate} at step ${step}`);
  const stopped = run.status === "diverged" ? "diverged" : run.status === "finished" ? null : `stopped by hand after step ${rows.length}`;
  const time = new Date(run.started).toISOString().replace(/[-:]/g, "").replace("T", "-").slice(0, 15);
  return {
    id: `${time}-${(0xf000 + run.id).toString(16)}`, model: "tiny", config: { ...config, method: config.method === "head" ? "full" : config.method, precision: "fp32" },
    trainable_parameters: run.trainable, total_parameters: run.total, before: run.before,
    after: measured ? { val_loss: measured.val_loss, general_loss: measured.general_loss } : {},
    history: rows, tokens: end.tokens, supervised_tokens: end.supervised_tokens, seconds: end.seconds,
    tokens_per_second: end.tokens / Math.max(end.seconds, 1e-9), stopped, total_steps: config.max_steps,
    machine: { device: "browser" }, versions: { playground: "1" }, notes,
    data: { name: data === "own" ? "own pairs" : data, rows: run.trainRecords, sha256: "", validation_rows: eval_records, truncated: 0, skipped: 0, replayed: 0, held_still: {} },
    samples: [[0, run.start], [rows.length, run.now] as const].flatMap(([step, look]) => run.questions.map(({ question, reference }, i) => ({
      step, prompt: question, reference, answer: (look as Look).answers[i] }))),
  };
}
