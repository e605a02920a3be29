// What the playground says about runs that are given by their numbers. Prints name -> sentence.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const dist = join(dirname(fileURLToPath(import.meta.url)), "../../playground/dist");
const ft = await import(join(dist, "engine.mjs"));
const questions = Array.from({ length: 5 }, (_, i) => ({ question: `q${i}`, reference: `a${i}`, taught: false }));
const answers = (right) => questions.map((q, i) => i < right ? `${q.reference}.` : "no");
const run = (id, { val, general = [0.82, 0.83], loss = [3, 0.1], right = [2, 5], status = "finished", epoch = 0.5, changes = [], ...config }) => ({
  id, status, changes, own: [], questions, config: { ...ft.DEFAULT, ...config }, before: { val_loss: val[0], general_loss: general[0] },
  start: { answers: answers(right[0]) }, now: { answers: answers(right[1]) },
  rows: val.slice(1).map((v, i) => ({ step: i + 1, epoch, val_loss: v, general_loss: general[1], loss: loss[Math.min(i, loss.length - 1)] })),
});
const text = (r) => ft.verdict(r).map((part) => part[1]).join("");
const lora = run(1, { val: [3.2, 0.01] }), full = run(2, { val: [3.2, 0.02], method: "full", learning_rate: 1e-3 });
const moved = run(3, { val: [3.2, 0.02], changes: [[9, 0.01]] });
console.log(JSON.stringify({
  learned: text(lora),
  "answers fell": text(run(1, { val: [3.2, 1.6], right: [2, 0] })),
  "odd pairs": text(run(1, { val: [9.4, 8.1], right: [0, 0] })),
  broken: text(run(1, { val: [3.2, 4], general: [0.82, 10], learning_rate: 10 })),
  overfitted: text(run(1, { val: [3.2, 0.07, 0.2, 0.4], loss: [3, 0.1, 0.01], epoch: 5 })),
  "one epoch": text(run(1, { val: [3.2, 0.07, 0.2, 0.4], loss: [3, 0.1, 0.01] })),
  noisy: text(run(1, { val: [3.2, 0.07, 0.2, 0.4], loss: [3, 3, 3], epoch: 5 })),
  worse: text(run(1, { val: [3.2, 4], right: [2, 2] })),
  compared: ft.compared(full, [lora, full]), changed: ft.compared(moved, [lora, moved]), same: ft.compared(lora, [lora, run(4, { val: [3.2, 0.01] })]),
  emoji: [ft.isRight("🙂 1", "🦊 1"), ft.isRight("l'eau.", "l'eau"), ft.isRight("?", "!")],
}));
