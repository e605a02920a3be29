// A run as ftkit reads it, and the lines that repeat it in Python.

import type { Config } from "./config.ts";
import type { PageRun } from "./page.ts";
import type { Look } from "./trainer.ts";

/** Lines that repeat a run. Every setting is written out, so that no default of ftkit can change it. */
export function pythonLine(config: Config): string {
  const source = JSON.stringify(config.data === "own" ? "pairs.jsonl" : config.data), few = config.train_records;
  const lab = few
    ? `whole = ft.Experiment(data=${source})\nlab = ft.Experiment(data=whole.train[:${few}], val=whole.val, eval_records=${config.eval_records})`
    : `lab = ft.Experiment(model="tiny", data=${source}, eval_records=${config.eval_records})`;
  const { data, train_records, eval_records, r, lora_alpha, ...rest } = config;
  const fields = { ...rest, method: config.method === "head" ? "full" : config.method, ...(config.method === "lora" ? { r, lora_alpha } : {}), precision: "fp32" };
  const lines = Object.entries(fields).map(([key, value]) => `    ${key}=${JSON.stringify(value)},\n`);
  return `import ftkit as ft\n\n${lab}\nrun = lab.run(\n${lines.join("")})\nft.curves(run)\n`;
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
    samples: [[0, run.start], [rows.length, run.now] as const].flatMap(([step, look]) => run.questions.flatMap(({ question, reference, taught }, i) => taught ? [] : [{
      step, prompt: question, reference, answer: (look as Look).answers[i] }])),
  };
}
