// What a run did, in words, judged against the model before training. No DOM: Node tests it.

import { digits } from "./charts.ts";
import { Config, DEFAULT, LEARNING_RATES, Method } from "./config.ts";
import { Pair, split } from "./data.ts";
import type { PageRun } from "./page.ts";

/** The loss of guessing evenly among the 3,072 tokens. */
export const GUESSING = Math.log(3072);
export const NAMES: Record<Method, string> = { full: "Full", lora: "LoRA", ia3: "IA3", head: "Head only" };
const DATA = { translation: "English to French", tasks: "31 tasks", own: "own pairs" };

/** general_loss may rise by this factor where a run is said to have kept its English. */
export const KEPT = 1.05;

/** A piece of a sentence: its CSS class ("" for none) and its text. */
export type Part = [string, string];
/** What identifies a run: its settings, its own pairs, and the learning rates set while it trained. */
export type Setting = Pick<PageRun, "config" | "own" | "changes">;

export const rateText = (rate: number) => rate >= 0.0001 ? String(+rate.toPrecision(3)) : (+rate.toPrecision(3)).toExponential();
export const rates = ({ config, changes }: Pick<PageRun, "config" | "changes">) =>
  rateText(config.learning_rate) + changes.map(([step, rate]) => ` → ${rateText(rate)} at step ${step}`).join("");

export const last = (run: Pick<PageRun, "rows" | "before">, key: "val_loss" | "general_loss"): number => {
  for (let i = run.rows.length - 1; i >= 0; i--) if (run.rows[i][key] !== undefined) return run.rows[i][key]!;
  return run.before[key];
};

const plain = (s: string) => s.toLowerCase().replace(/(?!['-])\p{P}/gu, "").trim();
/** Whether an answer has the wanted words. Punctuation counts only where there is nothing else. */
export const isRight = (answer: string, wanted: string) =>
  plain(wanted) ? plain(answer) === plain(wanted) : answer.trim() === wanted.trim();
/** Number of right answers, of the taught pairs or of the others. */
const right = (run: PageRun, answers: string[], taught: boolean) =>
  run.questions.filter((q, i) => !!q.taught === taught && isRight(answers[i] ?? "", q.reference)).length;

const arrow = (a: number, b: number): Part => [b > a * 1.02 ? "rise" : b < a * 0.98 ? "fall" : "", `${digits(a)} → ${digits(b)}`];
const mean = (values: number[]) => values.reduce((sum, v) => sum + v, 0) / values.length;

/** Where val_loss was lowest and what came after, if it rose noticeably. */
function overfitting(run: PageRun): Part[] {
  const points = [{ step: 0, val: run.before.val_loss }, ...run.rows.flatMap((row) => row.val_loss === undefined ? [] : [{ step: row.step, val: row.val_loss }])];
  const low = points.reduce((best, p) => p.val < best.val ? p : best), val = last(run, "val_loss");
  if (val < 1.1 * low.val || val - low.val < 0.02) return [];
  const lossAt = (step: number) => step ? mean(run.rows.slice(Math.max(0, step - 3), step).map((row) => row.loss)) : run.rows[0].loss;
  const from = lossAt(low.step), to = lossAt(run.rows.length), again = run.rows[run.rows.length - 1].epoch > 1;
  const rose: Part[] = [["", `val_loss was lowest ${low.step ? `at step ${low.step}` : "before training"}, and rose since (`], arrow(low.val, val), ["", ")"]];
  if (to >= from) return [["", " "], ...rose, ["", "; the training loss did not fall meanwhile."]];
  return [["b", again ? " It overfitted: " : " "], ...rose, ["", " while the training loss fell ("], arrow(from, to), ["", ")."]];
}

/** What a run that has ended did to the task and to the English. */
export function verdict(run: PageRun): Part[] {
  const { before, rows } = run, val = last(run, "val_loss"), general = last(run, "general_loss");
  const rate = rateText(Math.max(run.config.learning_rate, ...run.changes.map(([, r]) => r)));
  const lower = `Learning rate ${rate}${run.changes.length ? `, as it was moved while it trained (${rates(run)}),` : ""} is too high here: lower it and train again.`;
  if (run.status === "diverged") return [["rise", "The run diverged: "], ["", `after step ${rows.length} the loss is no longer a number. ${lower}`]];
  const broken = before.general_loss < 0.5 * GUESSING && general > 0.95 * GUESSING;
  if (broken) return [["rise", val < 0.75 * before.val_loss ? "The run broke the model's English: " : "The run broke the model: "], ["", "general_loss "], arrow(before.general_loss, general), ["", ", val_loss "], arrow(before.val_loss, val),
    ["", `. Guessing evenly among all tokens would give ${GUESSING.toFixed(2)} on general text. ${lower}`]];

  const asked = run.questions.filter((q) => !q.taught).length, taught = run.questions.length - asked;
  const was = right(run, run.start.answers, false), is = right(run, run.now.answers, false);
  const taughtWas = right(run, run.start.answers, true), taughtIs = right(run, run.now.answers, true);
  const byHeart = taughtWas < taught && taughtIs === taught && is >= was && 2 * is <= asked;
  const learned = byHeart ? "It learned the pairs that it was taught: " : is < was ? "It answers worse than before: " : val > 1.05 * before.val_loss ? "It got worse at the task: "
    : is === was && is < asked && val < 0.75 * before.val_loss ? "Its loss fell, but no more answers are right: "
    : val < 0.15 * before.val_loss && 5 * is >= 4 * asked ? "It learned the task: "
    : val < 0.75 * before.val_loss || is > was ? "It learned part of the task: " : "It hardly learned: ";
  const end = mean(rows.slice(-3).map((row) => row.loss));
  const times = general / before.general_loss, byChance = end > rows[0].loss && val <= before.val_loss, kept = times < KEPT, least = Math.round(100 * (KEPT - 1));
  const forgot = times > 2.2 ? " It forgot much of its English: " : kept ? " It kept its English: " : " It forgot some of its English: ";
  const limits = kept ? `“kept” is a rise of less than ${least} percent` : `a rise of ${Math.round(100 * (times - 1))} percent; ${times > 2.2 ? "“much” is more than 120" : `“some” is from ${least} to 120`}`;
  return [
    ["b", learned], ["", byHeart
      ? `${taughtIs} of the ${taught} shown are right, ${taughtWas} before. Of the ${asked} that it never saw, ${is || "none"} ${is > 1 ? "are" : "is"} right, ${was || "none"} before: such an answer has to follow from what the taught pairs have in common, or be known from pretraining`
      : `${was} of ${asked} questions right before, ${is} of ${asked} after${taught ? ` (of ${taught} taught pairs: ${taughtWas}, then ${taughtIs})` : ""}`],
    ["", `; val_loss${byHeart ? ", on questions that it never saw," : ""} `], arrow(before.val_loss, val), ["", ", training loss "], byChance ? ["", `${digits(rows[0].loss)} → ${digits(end)}`] : arrow(rows[0].loss, end),
    ["", `${rows.length > 3 ? " (mean of the last three steps)" : ""}${byChance ? "; each step has other records, so that such a rise can be chance" : ""}.`],
    ...overfitting(run),
    ["b", forgot], ["", "general_loss "], arrow(before.general_loss, general), ["", ` (${limits}).`],
  ];
}

// ------------------------------------------------------------------------- settings in words

export const WORDS: Partial<Record<keyof Config, string>> = {
  learning_rate: "learning rate", batch_size: "batch size", max_steps: "steps", lr_scheduler_type: "schedule", weight_decay: "weight decay",
  r: "rank", lora_alpha: "alpha", loss_on: "loss on", train_records: "training records", eval_records: "records in each evaluation",
};
/** Each setting in which two runs differ, with both values. Rank and alpha count where both have them. */
export function differences(a: Setting, b: Setting): { name: string; a: string; b: string }[] {
  const lora = a.config.method === "lora" && b.config.method === "lora";
  const method = (c: Config) => c.method === "lora" && !lora ? `LoRA of rank ${c.r} and alpha ${c.lora_alpha}` : NAMES[c.method];
  const value = (key: keyof Config, s: Setting) => key === "method" ? method(s.config) : key === "data" ? DATA[s.config.data]
    : key === "learning_rate" ? rates(s) : key === "train_records" ? String(s.config.train_records || "all") : String(s.config[key]).replaceAll("_", " ");
  const out = (Object.keys(DEFAULT) as (keyof Config)[]).filter((key) => lora || !/^(r|lora_alpha)$/.test(key))
    .map((key) => ({ name: WORDS[key] ?? key, a: value(key, a), b: value(key, b) })).filter((d) => d.a !== d.b);
  if (a.config.data === "own" && b.config.data === "own" && JSON.stringify(a.own) !== JSON.stringify(b.own)) out.push({ name: "pairs", a: "one table", b: "another" });
  return out;
}
/** How far apart two learning rates are, each against the usual one of its method. */
const apart = (a: Config, b: Config) => Math.abs(Math.log(a.learning_rate / LEARNING_RATES[a.method] / b.learning_rate * LEARNING_RATES[b.method]));
/** A sentence about the nearest finished run: it differs in no or one setting, or in the method and its learning rate. */
export function compared(run: PageRun, runs: PageRun[]): string {
  const twin = runs.find((other) => other !== run && other.status === run.status && !differences(other, run).length);
  const same = twin && (["val_loss", "general_loss"] as const).every((key) => Object.is(last(twin, key), last(run, key)));
  if (same) return `Same settings as run ${twin.id}, same result: the seed decides what is random.`;
  const others = runs.filter((other) => other !== run && other.status === "finished").map((other) => ({ other, differ: differences(other, run) }))
    .filter(({ differ }) => (differ.length === 1 || differ.length === 2 && differ.every((d) => /^(method|learning rate)$/.test(d.name))) && !differ.some((d) => /^(data|pairs|records in each evaluation)$/.test(d.name)));
  if (!others.length) return "";
  const { other, differ } = others.reverse().sort((a, b) => a.differ.length - b.differ.length || apart(a.other.config, run.config) - apart(b.other.config, run.config))[0];
  return `Run ${other.id} had ${differ.map((d) => `${d.name} ${d.a} instead of ${d.b}`).join(" and ")}; it ended at val_loss ${digits(last(other, "val_loss"))} and general_loss ${digits(last(other, "general_loss"))}.`
    + (differ.length > 1 ? ` ${differ.length} settings differ, so no single one explains the difference.` : "");
}

/** The settings under More, and how a value other than the usual one is said. */
export const MORE: [keyof Config, (v: any) => string][] = [["batch_size", (v) => `batch ${v}`], ["lr_scheduler_type", (v) => v.replaceAll("_", " ")], ["loss_on", () => "loss on question too"], ["weight_decay", (v) => `weight decay ${v}`],
  ["replay", (v) => `replay ${v}`], ["train_records", (v) => `${v} records`], ["seed", (v) => `seed ${v}`], ["eval_records", (v) => `evaluated on ${v}`]];
const unusual = (config: Config, words: typeof MORE) => words.filter(([key]) => config[key] !== DEFAULT[key]).map(([key, word]) => word(config[key]));
export const underMore = (config: Config) => unusual(config, MORE).join(", ");

/** How many of the reader's pairs a run trains on and how many it only asks. */
export function usedPairs(pairs: Pair[], { train_records }: Config): string {
  const { train, validation } = split(pairs), taught = train_records ? Math.min(train_records, train.length) : train.length;
  const short = `“${validation[0].instruction.slice(0, 40)}${validation[0].instruction.length > 40 ? "…" : ""}”`, are = (n: number) => n === 1 ? "is" : "are";
  return `${taught < train.length ? `Only ${taught} of ${train.length} ${are(taught)} taught, as set under More` : `${taught} ${are(taught)} taught`}; ${validation.length} ${are(validation.length)} kept back and only asked, such as ${short}.`;
}

export function nameOf(run: Setting): string {
  const c = run.config, parts = [c.method === "lora" ? `LoRA, rank ${c.r}` : NAMES[c.method], `learning rate ${rates(run)}`, `${c.max_steps} steps`];
  const words: typeof MORE = [["data", (v) => v === "own" && run.own.length ? `${run.own.length} own pairs` : DATA[v as Config["data"]]], ["lora_alpha", (v) => `alpha ${v}`], ...MORE];
  parts.push(...unusual(c, words.filter(([key]) => key !== "lora_alpha" || c.method === "lora")));
  return parts.join(", ");
}
