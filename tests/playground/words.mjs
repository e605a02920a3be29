// What the playground says about runs that are given by their numbers, and about pasted tables.
// Prints name -> sentence.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const dist = join(dirname(fileURLToPath(import.meta.url)), "../../playground/dist");
const ft = await import(join(dist, "engine.mjs"));
const questions = Array.from({ length: 5 }, (_, i) => ({ question: `q${i}`, reference: `a${i}`, taught: false }));
const answers = (right) => questions.map((q, i) => i < right ? `${q.reference}.` : "no");
const own = { questions: [{ question: "q", reference: "a", taught: false }, ...["b", "c"].map((reference) => ({ question: "q", reference, taught: true }))],
  start: { answers: ["no", "no", "no"] }, now: { answers: ["no", "b", "c"] } };
const run = (id, { val, general = [0.82, 0.83], loss = [3, 0.1], right = [2, 5], status = "finished", epoch = 0.5, changes = [], trainable = 1000, ...config }) => ({
  id, status, changes, trainable, own: [], questions, config: { ...ft.DEFAULT, ...config }, before: { val_loss: val[0], general_loss: general[0] },
  start: { answers: answers(right[0]) }, now: { answers: answers(right[1]) },
  rows: val.slice(1).map((v, i) => ({ step: i + 1, epoch, val_loss: v, general_loss: general[1], loss: loss[Math.min(i, loss.length - 1)] })),
});
const text = (r) => ft.verdict(r).map((part) => part[1]).join("");
const lora = run(1, { val: [3.2, 0.01] }), full = run(2, { val: [3.2, 0.02], method: "full", learning_rate: 1e-3 });
const moved = run(3, { val: [3.2, 0.02], changes: [[9, 0.01]] });
const { vocabulary, merges } = JSON.parse(readFileSync(join(dist, "data.json"))), tokenizer = new ft.Tokenizer(vocabulary, merges);
const table = (text) => { try { return JSON.stringify(ft.parsePairs(text, tokenizer)); } catch (error) { return error.message; } };
const judged = (number, one, others = [], guessed) => { const { solved, words } = ft.judged(ft.CHALLENGES[number - 1], one, [...others, one], guessed); return `${solved ? "Solved" : "Not yet"}: ${words}`; };
const guess = run(7, { val: [3.2, 0.1], general: [0.82, 1.54], method: "full", learning_rate: 1e-3, max_steps: 300 });
const small = run(8, { val: [3.2, 0.1], trainable: 90 }), large = run(9, { val: [3.2, 0.093], method: "full", learning_rate: 1e-3 });
const pairs = Array.from({ length: 20 }, (_, i) => ({ instruction: `q${i}`, output: `a${i}` }));
console.log(JSON.stringify({
  "taught pairs": text({ ...run(1, { val: [5, 6], data: "own" }), ...own }),
  "half taught": text({ ...run(1, { val: [5, 6], data: "own" }), ...own, now: { answers: ["no", "b", "x"] } }),
  unchanged: text(run(1, { val: [3.2, 0.1], right: [2, 2] })),
  "wrong guess": judged(1, guess, [], 1),
  "close to the limit": judged(2, run(1, { val: [3.2, 0.05], general: [0.82, 0.8612] })),
  "three of five": text(run(1, { val: [3.2, 0.2], right: [2, 3] })),
  "broken English": text(run(1, { val: [3.2, 1.6], general: [0.82, 10], learning_rate: 10 })),
  "batches by chance": text(run(1, { val: [3.23, 3.2, 3.13], loss: [3.32, 3.84] })),
  "moved too high": text(run(1, { val: [3.2, 4], general: [0.82, 10], changes: [[2, 10]] })),
  nearest: ft.compared(full, [lora, run(3, { val: [3.2, 8], learning_rate: 10 }), full]),
  "no method of it": judged(5, run(11, { val: [3.2, 0.1], method: "ia3" })), "needs Full": judged(5, lora),
  "forgot some": text(run(1, { val: [3.2, 0.01], general: [0.82, 0.92] })),
  "a small rise": judged(3, run(1, { val: [3.2, 0.002, 0.0021], train_records: 8 })),
  "kept runs": ft.solvedBy(ft.CHALLENGES[3], [small, large, run(10, { val: [3.2, 3], max_steps: 5 })]),
  "few pairs": ft.usedPairs(pairs, { ...ft.DEFAULT, train_records: 8 }), "all pairs": ft.usedPairs(pairs, ft.DEFAULT), "under More": ft.underMore(ft.begun(ft.CHALLENGES[2])),
  "too many records": judged(3, run(1, { val: [3.2, 0.05] })),
  "a tenth": judged(4, small, [large]), "other steps": judged(4, { ...small, config: { ...small.config, max_steps: 60 } }, [large]),
  "start of 3": ft.nameOf({ config: ft.begun(ft.CHALLENGES[2]), own: [], changes: [] }),
  "a comma more": table("question,answer\nWho is there?,Tom, Ann and Bo"), "a semicolon more": table("a;b\nc;d;e\nf;g"),
  "quoted commas": table('question,answer\nWho?,"Tom, Ann"\nWhere?,here'), "with input": table("id,instruction,input,output\n1,Add,2,3\n2,Add,3,4"),
  "a field more": table('{"question": "a", "context": "c", "answer": "b"}\n{"question": "d", "answer": "e"}'),
  "two turns": table(JSON.stringify({ messages: ["user", "assistant", "user", "assistant"].map((role) => ({ role, content: "x" })) })),
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
