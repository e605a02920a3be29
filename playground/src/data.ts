// Records, the examples that the model reads, and tables that a reader pastes.

import { MersenneTwister } from "./random.ts";
import { BOS, EOS, Tokenizer } from "./tokenizer.ts";

export interface Pair { instruction: string; input?: string; output: string }
/** unused: the columns of a table, or the fields of its records, that are in no pair. */
export interface Table { pairs: Pair[]; unused: string[] }
export interface Example { ids: number[]; labels: number[] }
export const NO_LOSS = -100, CONTEXT = 512, MOST_PAIRS = 200, MOST_BYTES = 1_000_000;

/** A mistake of the reader, with a sentence that says what to do. */
export class InputError extends Error {}

/** The ids before the answer: the chat template of the embedded model. */
export function prompt(pair: Pair, tokenizer: Tokenizer): number[] {
  const question = (pair.input ? `${pair.instruction}\n${pair.input}` : pair.instruction).trim();
  return [BOS, ...tokenizer.encode(`User: ${question}\nAssistant:`)];
}

export function pairExample(pair: Pair, tokenizer: Tokenizer, lossOn: "response" | "all" = "response"): Example {
  const before = prompt(pair, tokenizer), after = [...tokenizer.encode(" " + pair.output.trim()), EOS];
  const ids = [...before, ...after].slice(0, CONTEXT);
  return { ids, labels: ids.map((id, i) => i && (lossOn === "all" || i >= before.length) ? id : NO_LOSS) };
}

/** A plain text, trained on whole. */
export function textExample(text: string, tokenizer: Tokenizer): Example {
  const ids = [BOS, ...tokenizer.encode(text), EOS].slice(0, CONTEXT);
  return { ids, labels: ids.map((id, i) => i ? id : NO_LOSS) };
}

/** The same n records every time, spread over the set, as ftkit's `inputs.some`. */
export function some<T>(records: T[], n: number): T[] {
  const chosen = MersenneTwister.python(0).sample(records.length, Math.min(n, records.length));
  return chosen.sort((a, b) => a - b).map((i) => records[i]);
}

/** A tenth for validation; pairs that ask the same stay on one side. As ftkit's `split`, seed 0. */
export function split(pairs: Pair[], fraction = 0.1): { train: Pair[]; validation: Pair[] } {
  const groups = new Map<string, number[]>();
  pairs.forEach((pair, i) => {
    const key = `${pair.instruction}\n${pair.input ?? ""}`.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
    groups.set(key, [...(groups.get(key) ?? []), i]);
  });
  const order = [...groups.values()];
  if (order.length < 2) throw new InputError("The table asks only one question. Give at least two different ones: some are kept for validation.");
  MersenneTwister.python(0).shuffle(order);
  const held = new Set<number>(), wanted = fraction * pairs.length;
  while (order.length > 1 && (!held.size || held.size + order[order.length - 1].length / 2 <= wanted)) {
    for (const i of order.pop()!) held.add(i);
  }
  return { train: pairs.filter((_, i) => !held.has(i)), validation: pairs.filter((_, i) => held.has(i)) };
}

// ------------------------------------------------------------------------- a pasted table

const QUESTIONS = ["question", "instruction", "prompt", "input", "q"];
const ANSWERS = ["answer", "output", "response", "completion", "target", "a"];

/** The mark between fields: what splits the most lines, best into two. */
function separator(text: string): string {
  const lines = text.split("\n").map((line) => line.replace(/"[^"]*"/g, ""));
  const score = (mark: string) => lines.reduce((sum, line) => { const n = line.split(mark).length; return sum + Number(n > 1) + Number(n === 2); }, 0);
  return ["\t", ";"].reduce((best, mark) => score(mark) > score(best) ? mark : best, ",");
}

/** Rows of text separated by this mark, with quotes as in RFC 4180. */
function rows(text: string, comma: string): string[][] {
  const out: string[][] = [];
  let row: string[] = [], field = "", quoted = false, line = 1, opened = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\n") line++;
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[i + 1] === '"') { field += '"'; i++; } else quoted = false;
    } else if (c === '"' && !field.trim()) { quoted = true; opened = line; field = ""; }
    else if (c === comma) { row.push(field); field = ""; }
    else if (c === "\n") { row.push(field); out.push(row); row = []; field = ""; }
    else field += c;
  }
  if (quoted) throw new InputError(`Line ${opened} opens a quotation mark that is never closed. Close it, or write "" for a mark inside a field.`);
  if (field || row.length) { row.push(field); out.push(row); }
  return out.map((r) => r.map((f) => f.trim())).filter((r) => r.some(Boolean));
}

function fromJson(text: string): Table {
  let records: { value: any; line: number }[];
  if (text.startsWith("[")) {
    try { records = JSON.parse(text).map((value: any, i: number) => ({ value, line: i + 1 })); } catch {
      throw new InputError("The list is not valid JSON. Paste one JSON object per line, or a table with a comma between question and answer.");
    }
  } else records = text.split("\n").map((value, i) => ({ value, line: i + 1 })).filter((r) => r.value.trim()).map(({ value, line }) => {
    try { return { value: JSON.parse(value), line }; } catch {
      throw new InputError(`Line ${line} is not valid JSON. Each line is one object such as {"question": "2 + 2", "answer": "4"}.`);
    }
  });
  const unused = new Set<string>();
  const pairs = records.map(({ value, line }) => {
    const messages = value?.messages;
    if (Array.isArray(messages)) {
      if (messages.map((m: any) => m?.role).join() !== "user,assistant") throw new InputError(`Record ${line} has other messages than one of the user and one of the assistant, and the playground trains on such pairs only. Split it, or use ftkit in Python.`);
      return { instruction: String(messages[0].content), output: String(messages[1].content) };
    }
    const key = (names: string[]) => names.find((n) => value?.[n] !== undefined && value[n] !== "");
    const answer = key(ANSWERS), question = key(QUESTIONS);
    if (!answer || !question) throw new InputError(`Record ${line} has no question or no answer. Name them "question" and "answer" (or "instruction" and "output").`);
    const input = question === "instruction" && value.input ? String(value.input) : "";
    for (const name of Object.keys(value)) if (name !== question && name !== answer && !(input && name === "input") && value[name] !== "") unused.add(name);
    return { instruction: String(value[question]), input, output: String(value[answer]) };
  });
  return { pairs, unused: [...unused] };
}

const MARKS: Record<string, string> = { ",": "commas", ";": "semicolons", "\t": "tabs" };
function fromTable(text: string): Table {
  const mark = separator(text), table = rows(text, mark), head = table[0].map((f) => f.toLowerCase());
  const question = head.findIndex((f) => QUESTIONS.includes(f)), answer = head.findIndex((f) => ANSWERS.includes(f));
  const named = question >= 0 && answer >= 0 && question !== answer, columns = named ? head.length : 2;
  const [q, a] = named ? [question, answer] : [0, 1], extra = named && head[q] === "instruction" ? head.indexOf("input") : -1;
  const pairs = (named ? table.slice(1) : table).map((row, i): Pair => {
    const which = `Row ${i + 1 + +named} ("${row.join(`${mark} `).slice(0, 40)}")`, quote = `put a text that has ${MARKS[mark]} in quotation marks, as in "one${mark} two${mark} three"${mark}four.`;
    if (!row[q] || !row[a]) throw new InputError(`${which} has no ${row[q] ? "answer" : "question"}. Write a question, a comma, its answer; ${quote}`);
    if (row.length > columns) throw new InputError(`${which} has ${row.length} columns and ${named ? "the header" : "a pair"} has ${columns}. If a text goes on after one of its ${MARKS[mark]}, ${quote}`);
    return { instruction: row[q], input: row[extra] ?? "", output: row[a] };
  });
  return { pairs, unused: named ? table[0].filter((name, i) => name && ![q, a, extra].includes(i)) : [] };
}

/** Question and answer pairs of CSV, TSV, JSON or JSONL text. Throws InputError with a sentence. */
export function parsePairs(raw: string, tokenizer: Tokenizer): Table {
  if (raw.length > MOST_BYTES) throw new InputError(`This is ${(raw.length / 1e6).toFixed(1)} MB of text. The playground takes at most ${MOST_PAIRS} pairs and 1 MB; for more, use ftkit in Python.`);
  const text = raw.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n").trim();
  if (!text) throw new InputError("The table is empty. Paste one pair per line: a question, a comma, its answer.");
  const table = text[0] === "{" || text[0] === "[" ? fromJson(text) : fromTable(text), { pairs } = table;
  if (!pairs.length) throw new InputError("The table has a header and no rows. Add one pair per line.");
  if (pairs.length > MOST_PAIRS) throw new InputError(`The table has ${pairs.length.toLocaleString("en")} pairs. The playground takes at most ${MOST_PAIRS}; keep the first ${MOST_PAIRS}, or use ftkit in Python.`);
  pairs.forEach((pair, i) => {
    const asked = prompt(pair, tokenizer).length, all = asked + tokenizer.encode(" " + pair.output.trim()).length + 1;
    if (all > CONTEXT) throw new InputError(`Pair ${i + 1} has ${all} tokens and the model reads ${CONTEXT}. Shorten its ${asked > CONTEXT / 2 ? "question" : "answer"} ("${pair.instruction.slice(0, 40)}...").`);
  });
  split(pairs);
  return table;
}
