// The page: settings, the worker that trains, and what is shown of each run.

import { begun, CHALLENGES, judged, lessonLink, solvedBy } from "./challenges.ts";
import { digits, drawCurves, drawFrontier, Series, svg } from "./charts.ts";
import { Config, DEFAULT, LEARNING_RATES, METHODS, Method, OPENING, SCHEDULES } from "./config.ts";
import { InputError, MOST_BYTES, Pair, parsePairs, split } from "./data.ts";
import { exported, pythonLine } from "./export.ts";
import { Tokenizer } from "./tokenizer.ts";
import type { Look, Measures, Question, Row } from "./trainer.ts";
import { compared, differences, GUESSING, isRight, last, MORE, nameOf, NAMES, Part, rateText, underMore, usedPairs, verdict, WORDS } from "./verdict.ts";
import type { FromWorker, Loaded, ToWorker } from "./worker.ts";

const $ = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const form = $<HTMLFormElement>("settings"), box = $<HTMLTextAreaElement>("pairs");

export interface PageRun {
  id: number; config: Config; own: Pair[]; questions: Question[];
  before: Measures; start: Look; now: Look; rows: Row[]; trainable: number; total: number; trainRecords: number;
  status: "running" | "paused" | "finished" | "diverged" | "ended"; changes: [number, number][]; started: number;
}
const RATES = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10];
const LIMITS: Partial<Record<keyof Config, [number, number]>> = {
  batch_size: [1, 64], max_steps: [1, 300], r: [1, 64], lora_alpha: [1, 256], weight_decay: [0, 1], replay: [0, 0.9],
  seed: [0, 9999], train_records: [0, 5000], eval_records: [4, 64], learning_rate: [1e-7, 10],
};
const isWhole = (key: keyof Config) => !/learning_rate|weight_decay|replay|warmup/.test(key);
const MOST_RUNS = 12, MOST_SHARED = 5000;
const TASKS = { translation: "to answer in French and then stop", tasks: "31 small tasks", own: "your own answers" };
const ABOUT: Record<Method, string> = {
  full: "Full trains all 2.4 million weights.",
  lora: "LoRA freezes the weights and trains two thin matrices beside each; rank is their width, and alpha / rank scales what they add.",
  ia3: "IA3 freezes the weights and trains 3,584 factors, which scale keys, values and the middle of each MLP.",
  head: "Head trains only the last matrix, which turns vectors into tokens.",
};

let config: Config = { ...DEFAULT };
let own: Pair[] = [], runs: PageRun[] = [], current: PageRun | undefined, preview: PageRun | undefined, ready = false, nextId = 1, memory = 0;
let waiting: ToWorker | undefined, challenge = 0, justSolved: number[] = [], tokenizer: Tokenizer, rateNote = "", limitNote = "";
/** The text of the box that the pairs in use were read from, and one that could not be read. */
let readText = "", refused: string | undefined;
/** What the last reading of the box said before the number of pairs: a file's name, and the columns that it left out. */
let readFrom = "", unusedColumns: string[] = [];
/** A learning rate that was set while a run trains and that no step has used yet. */
let movedRate: number | undefined;
let wasReset = false;
/** The step that the pointer reads. */
let pointed: number | undefined;
/** The solved challenges: number -> the numbers that solved it. */
const solved = new Map<number, string>(), guesses: Record<number, number> = {}, runsAtOnce = location.hash.includes("run=1");

// ------------------------------------------------------------------------- the worker

const text = (id: string) => $(id).textContent!;
const source = URL.createObjectURL(new Blob([text("data-worker")], { type: "text/javascript" }));
const worker = new Worker(source);
const send = (message: ToWorker, move: Transferable[] = []) => worker.postMessage(message, move);
send({ type: "load", weights: text("data-weights"), data: text("data-samples"), kernels: text("data-kernels") });
/** A second worker evaluates where there is a core for it. `?workers=1` in the address does without. */
function addEvaluator() {
  if ((navigator.hardwareConcurrency ?? 1) < 2 || location.search.includes("workers=1")) return;
  const second = new Worker(source), { port1, port2 } = new MessageChannel();
  second.postMessage({ type: "serve", port: port1 } satisfies ToWorker, [port1]);
  send({ type: "evaluator", port: port2 }, [port2]);
}
for (const id of ["data-weights", "data-worker", "data-kernels"]) $(id).remove();
worker.onerror = (event) => fail(event.message);

worker.onmessage = ({ data: message }: MessageEvent<FromWorker>) => {
  if (message.type === "ready") {
    ready = true;
    addEvaluator();
    if (waiting) { send(waiting); waiting = undefined; } else if (runsAtOnce) start(Infinity); else look();
  } else if (message.type === "failed") fail(message.message);
  else if (message.type === "started" && message.id === 0) {
    preview = { ...blank(), config: { ...config }, questions: message.questions, before: message.measures, start: message.look, now: message.look };
    if (!current) showAll();
  } else if (!current || message.id !== current.id) return;
  else if (message.type === "started") {
    Object.assign(current, { questions: message.questions, before: message.measures, start: message.look, now: message.look,
      trainable: message.trainable, total: message.total, trainRecords: message.trainRecords });
    showAll();
  } else if (message.type === "row") {
    current.rows.push(message.row);
    if (message.peak !== peakOf(current)) current.changes.push([message.row.step, message.peak]);
    if (message.peak === movedRate) movedRate = undefined;
    if (message.look) { current.now = message.look; showAll(); } else { showCurves(); showVerdict(); }
  } else if (message.type === "evaluated") {
    const row = current.rows[message.step - 1];
    if (row) Object.assign(row, message.measures);
    current.now = message.look;
    showAll();
  } else if (message.type === "done") {
    memory = message.memory;
    current.status = message.stopped ? "diverged" : "finished";
    movedRate = pointed = undefined;
    justSolved = settle() ? [challenge] : [];
    remember();
    showAll();
  }
  showControls();
};
function fail(why: string) { $("verdict").innerHTML = ""; $("verdict").append("The page cannot train here: ", why, ". It needs a browser with WebAssembly SIMD, such as Chrome, Edge or Firefox, or Safari from version 16.4."); }

/** Ask for what the untrained model says, where no run is open. */
function look() {
  if (!ready || isOpen() || (config.data === "own" && !own.length)) return;
  const same = preview && (["data", "eval_records", "loss_on", "train_records"] as const).every((key) => preview!.config[key] === config[key]) && preview.own === own;
  if (!same) send({ type: "preview", config, own });
}

// ------------------------------------------------------------------------- a run

function blank(): PageRun {
  const nothing = { answers: [], movement: {}, mask: [] };
  return { id: 0, config: { ...config }, own, questions: [], before: { val_loss: NaN, general_loss: NaN }, start: nothing, now: nothing, rows: [], trainable: 0, total: 0, trainRecords: 0, status: "ended", changes: [], started: Date.now() };
}
/** The peak learning rate of the newest step. */
const peakOf = (run: PageRun) => run.changes.length ? run.changes[run.changes.length - 1][1] : run.config.learning_rate;
/** The run that is shown: the current one, or the model before any training. */
const shownRun = () => current ?? preview;

/** Whether the box has a text that was not tried yet. */
const edited = () => config.data === "own" && box.value !== readText && (box.value !== refused || !own.length) && (own.length > 0 || box.value.trim() !== "");

function start(steps: number) {
  if (edited()) { usePairs().then((isRead) => { if (isRead) start(steps); }); return; }
  if (config.data === "own" && !own.length) { say("Give your pairs first, then press Train.", true); box.focus(); $("own-message").scrollIntoView({ block: "nearest" }); return; }
  if (current && ["running", "paused"].includes(current.status)) current.status = "ended";
  if (current && !current.rows.length) runs = runs.filter((run) => run !== current);
  movedRate = pointed = undefined; rateNote = limitNote = ""; setUp = ""; justSolved = [];
  showAbout();
  current = { ...blank(), id: nextId++, status: steps === Infinity ? "running" : "paused" };
  runs.push(current);
  if (runs.length > MOST_RUNS) runs.shift();
  const message: ToWorker = { type: "begin", id: current.id, config: current.config, own: current.own, steps };
  if (ready) send(message); else waiting = message;
  showControls();
}

const isOpen = () => current !== undefined && (current.status === "running" || current.status === "paused");
/** Whether the settings are those of the current run, but for the learning rate. */
const fits = () => current !== undefined && (Object.keys(config) as (keyof Config)[]).every((key) => key === "learning_rate" || config[key] === current!.config[key]) && (config.data !== "own" || current.own === own) && !edited();
/** In which settings the page differs from the run that it shows. */
function changed(): string[] {
  if (!current) return [];
  const final = movedRate ?? peakOf(current);
  const now = config.learning_rate === final ? { config: { ...config, learning_rate: current.config.learning_rate }, changes: current.changes } : { config, changes: [] };
  const names = differences(current, { ...now, own }).map((d) => d.name);
  return edited() && !names.includes("pairs") ? [...names, "pairs"] : names;
}

function trainOrPause() {
  if (isOpen() && fits()) pauseOrResume(); else start(Infinity);
  showControls();
  if (current) showVerdict();
}
function pauseOrResume() {
  current!.status = current!.status === "running" ? "paused" : "running";
  send(current!.status === "running" ? { type: "go", steps: Infinity } : { type: "pause" });
}
function oneStep() {
  if (isOpen() && fits()) { current!.status = "paused"; send({ type: "go", steps: 1 }); } else start(1);
  showControls();
}
function reset() {
  wasReset = true;
  if (isOpen()) { send({ type: "pause" }); current!.status = "ended"; }
  if (current && !current.rows.length) runs = runs.filter((run) => run !== current);
  current = movedRate = pointed = undefined;
  remember(); look(); showAll(); showControls();
}

// ------------------------------------------------------------------------- settings

/** The number within its limits; a correction is said. */
function bounded(key: keyof Config, given: number): number {
  const [low, high] = LIMITS[key]!, value = Math.min(high, Math.max(low, isWhole(key) ? Math.round(given) : given));
  if (value !== given) limitNote += `${nameOfField(key)} can be ${isWhole(key) ? "a whole number " : ""}from ${low} to ${high}: ${value} is set, not ${given}. `;
  return value;
}
const nameOfField = (key: keyof Config) => (WORDS[key] ?? key).replace(/^./, (c) => c.toUpperCase());
function readForm() {
  limitNote = "";
  const data = new FormData(form);
  const old = { ...config };
  for (const key of Object.keys(DEFAULT) as (keyof Config)[]) {
    const value = data.get(key);
    if (value === null) continue;
    if (key === "learning_rate") continue;
    if (typeof DEFAULT[key] === "number") {
      if (value === "") limitNote += `${nameOfField(key)} is empty: ${config[key]} is used. `;
      else if (Number.isFinite(Number(value))) (config as any)[key] = bounded(key, Number(value));
    } else (config as any)[key] = String(value);
  }
  // A method comes with the learning rate that suits it, unless another was chosen.
  if (config.method !== old.method) {
    const usual = rateText(LEARNING_RATES[config.method]), name = NAMES[config.method];
    if (old.learning_rate === LEARNING_RATES[old.method]) {
      config.learning_rate = LEARNING_RATES[config.method];
      rateNote = config.learning_rate === old.learning_rate ? "" : `The learning rate changed with it, from ${rateText(old.learning_rate)} to ${usual}, which is usual for ${name} here.`;
    } else rateNote = `The learning rate stays at ${rateText(old.learning_rate)}; usual for ${name} here is ${usual}.`;
  }
  showForm();
}
function rateMoved() {
  rateNote = limitNote = "";
  config.learning_rate = RATES[Number((form.elements.namedItem("learning_rate") as HTMLInputElement).value)];
  if (isOpen() && fits()) {
    send({ type: "rate", learningRate: config.learning_rate });
    movedRate = config.learning_rate;
  }
  showForm();
}
function showForm() {
  for (const [key, value] of Object.entries(config)) {
    const field = form.elements.namedItem(key) as HTMLInputElement | RadioNodeList | null;
    if (!field || key === "learning_rate") continue;
    if (field instanceof HTMLElement && field === document.activeElement && field.type === "number" && field.value === "") continue;
    if (String((field as HTMLInputElement).value) !== String(value)) (field as HTMLInputElement).value = String(value);
  }
  const slider = form.elements.namedItem("learning_rate") as HTMLInputElement, rate = config.learning_rate;
  slider.value = String(RATES.reduce((best, r, i) => Math.abs(Math.log(r / rate)) < Math.abs(Math.log(RATES[best] / rate)) ? i : best, 0));
  const shown = rateText(rate);
  slider.setAttribute("aria-valuetext", shown);
  $("rate").textContent = shown;
  form.querySelectorAll<HTMLElement>(".lora").forEach((field) => { field.hidden = config.method !== "lora"; field.style.display = config.method === "lora" ? "" : "none"; });
  $("own").hidden = config.data !== "own";
  if (config.data !== "own" || own.length) look();
  if (config.data === "own" && own.length && box.value === readText) say(pairsInUse());
  showAbout();
  writeHash();
  showControls();
  showCount(); showVerdict(); showWhose();
  if (setUp) showChallenges();
}

const SHAPES: Record<Config["lr_scheduler_type"], string> = { cosine: "falls to near 0 on a cosine", linear: "falls to near 0 on a line", constant: "stays there", warmup_stable_decay: "falls only at the end" };
function showAbout() {
  const moved = isOpen() && fits() && (movedRate !== undefined || current!.changes.length > 0), rate = rateText(config.learning_rate);
  $("about").textContent = `${ABOUT[config.method]} ${moved ? `You moved the learning rate of this run: the schedule goes on as if ${rate} were its peak, and gives a part of it to each step.` : `The learning rate starts small, peaks at ${rate} and ${SHAPES[config.lr_scheduler_type]}.`} ${limitNote}${rateNote}`;
  const more = underMore(config);
  $("more-set").textContent = more && `Set under More: ${more}.`; $("more-usual").hidden = !more;
  $("usual").hidden = !rateNote.includes("stays");
  $("usual").textContent = `Use ${rateText(LEARNING_RATES[config.method])}`;
}

function writeHash() {
  const parts = new URLSearchParams();
  for (const key of Object.keys(DEFAULT) as (keyof Config)[]) {
    if (config[key] !== DEFAULT[key] || key === "data" || key === "method" || key === "learning_rate") parts.set(key, String(config[key]));
  }
  if (challenge) parts.set("challenge", String(challenge + 1));
  try { history.replaceState(null, "", `#${parts}`); } catch { /* a viewer without an address, as JupyterLab's */ }
}
function readHash() {
  const parts = new URLSearchParams(location.hash.slice(1)), lists: any = { data: ["translation", "tasks", "own"], method: METHODS, lr_scheduler_type: SCHEDULES, loss_on: ["response", "all"] };
  config = { ...DEFAULT };
  limitNote = "";
  const method = parts.get("method");
  if (METHODS.includes(method as Method)) config.learning_rate = LEARNING_RATES[method as Method];
  for (const [key, value] of parts) {
    if (key === "pairs") try {
      const given = JSON.parse(value) as Pair[];
      if (split(given).train.length && given.every((p) => [p.instruction, p.output].every((words) => typeof words === "string"))) { own = given; fillBox(); }
    } catch { /* a damaged link has no table */ }
    if (!(key in DEFAULT)) continue;
    if (LIMITS[key as keyof Config]) { if (value !== "" && Number.isFinite(Number(value))) (config as any)[key] = bounded(key as keyof Config, Number(value)); }
    else if (lists[key].includes(value)) (config as any)[key] = value;
  }
  challenge = Math.min(CHALLENGES.length - 1, Math.max(0, Number(parts.get("challenge") ?? 1) - 1 || 0));
}

// ------------------------------------------------------------------------- what is shown

function showCount() {
  const its = current && (isOpen() || !changed().length);
  $("count").textContent = String(its ? current!.rows.length : 0);
  $("total").textContent = String(its ? current!.config.max_steps : config.max_steps);
}
/** Says in each heading whose results are below it. */
function showWhose() {
  const words = !current ? "" : changed().length ? `run ${current.id}, before the settings were changed` : `run ${current.id}`;
  document.querySelectorAll<HTMLElement>(".whose").forEach((e) => { e.textContent = words; e.classList.toggle("stale", changed().length > 0); });
}
const curve = (run: PageRun, key: "loss" | "val_loss" | "general_loss"): [number, number][] => [
  ...(key === "loss" ? [] : [[0, run.before[key]] as [number, number]]),
  ...run.rows.filter((row) => row[key] !== undefined).map((row) => [row.step, row[key]!] as [number, number])];

let scales: { task: ReturnType<typeof drawCurves>; general: ReturnType<typeof drawCurves> } | undefined;
function showCurves() {
  const of = shownRun()?.config ?? config;
  $("dotted").textContent = `Dotted: the training loss, of each batch before its step${of.replay ? "; with replay it includes the general text that is mixed in" : ""}${of.loss_on === "all" ? "; it counts the questions too, val_loss only the answers" : ""}.`;
  const shown = shownRun(), old = comparable().filter((run) => run !== shown && run.rows.length);
  const steps = (current ?? { config }).config.max_steps, changes = (shown?.changes ?? []).map(([step, rate]): [number, string] => [step, rateText(rate)]);
  const series = (key: "val_loss" | "general_loss", className: string): Series[] => [
    ...old.map((run): Series => ({ points: curve(run, key), className: "old" })),
    ...(shown && key === "val_loss" ? [{ points: curve(shown, "loss"), className: "loss" }] : []),
    ...(shown ? [{ points: curve(shown, key), className, label: key, dots: true }] : [])];
  const words = (key: "val_loss" | "general_loss") => !shown ? "No run yet." : `Now ${digits(last(shown, key))} after ${shown.rows.length} steps, from ${digits(shown.before[key])}. ${old.length} earlier runs behind it.`;
  scales = {
    task: drawCurves($("task-chart"), { series: series("val_loss", "val"), steps, floor: 1, guessing: GUESSING, log: true, changes, title: "val_loss, the loss on questions that are not trained on", description: words("val_loss") }),
    general: drawCurves($("general-chart"), { series: series("general_loss", "general"), steps, floor: 2, guessing: GUESSING, log: false, changes, title: "general_loss, the loss on everyday text", description: words("general_loss") }),
  };
  showCount(); showReadout();
}
/** Runs whose losses can be compared with those of the run that is shown: the same data is evaluated. */
function comparable(): PageRun[] {
  const shown = shownRun() ?? { config, own };
  return runs.filter((run) => !differences(run, { ...shown, changes: [] }).some((d) => /^(data|pairs|records in each evaluation)$/.test(d.name)));
}
function point(event: PointerEvent) {
  const host = event.currentTarget as HTMLElement;
  pointed = scales?.task.step(event.clientX - host.getBoundingClientRect().left);
  showReadout();
}
/** What the run that is shown had at the step that the pointer reads. */
function showReadout() {
  const shown = shownRun();
  document.querySelectorAll(".cursor").forEach((line) => line.remove());
  if (!shown || !scales || pointed === undefined) { $("readout").textContent = "Point at a curve, or tap it, to read a step."; return; }
  const step = Math.max(0, Math.min(shown.rows.length, pointed));
  for (const s of [scales.task, scales.general]) {
    s.root.append(svg("line", { x1: s.x(step), x2: s.x(step), y1: 4, y2: s.height - 22, class: "cursor" }));
  }
  const row = shown.rows[step - 1];
  $("readout").textContent = row ? `Run ${shown.id}, step ${step}: loss ${digits(row.loss)}${row.val_loss === undefined ? "" : `, val_loss ${digits(row.val_loss)}, general_loss ${digits(row.general_loss!)}`}, learning rate ${rateText(row.learning_rate)}, gradient norm ${digits(row.grad_norm)}`
    : `Before training: val_loss ${digits(shown.before.val_loss)}, general_loss ${digits(shown.before.general_loss)}`;
}

const element = (tag: string, className = "", content: (Node | string)[] = []) => { const e = document.createElement(tag); if (className) e.className = className; e.append(...content); return e; };

function showLook() {
  const shown = shownRun();
  const { start: was, now, questions } = shown ?? { start: undefined, now: undefined, questions: [] };
  const cell = (answer: string, wanted: string, className: string) => {
    const right = answer && isRight(answer, wanted);
    const shown = answer.replace(/\ufffd+$/, "…"); // cut within a character
    return element("td", className, [right ? element("span", "right", [`✓ “${shown}”`]) : element("span", "", [element("span", "wrong", ["✗ "]), shown ? `“${shown}”` : "(nothing)"])]);
  };
  const heading = (words: string) => { const th = element("th", "group", [words]) as HTMLTableCellElement; th.colSpan = 2; return th; };
  $("known").textContent = shown?.config.data === "translation" ? "Pretraining taught it this French already: before, the right words are often there and it goes on talking. Training teaches it to give the answer alone and stop. “31 small tasks” is harder." : !shown ? "" : shown.config.data === "tasks" ? "Before, a right word can be there already, from pretraining; it counts as right only if the answer is given alone." : "Before training, odd or broken words are normal: pretraining may have had nothing like these questions.";
  $("answers").replaceChildren(...questions.flatMap(({ question, reference, taught }, i) => {
    const head = element("th", "", [question, " ", element("span", "wanted", [`(answer: ${reference})`])]) as HTMLTableCellElement;
    head.colSpan = 2; head.scope = "rowgroup";
    return [...(taught && !questions[i - 1]?.taught ? [element("tr", "", [heading("Pairs that it is trained on")])] : []), element("tr", "", [head]), element("tr", "", [cell(was!.answers[i] ?? "", reference, "was"), shown!.rows.length ? cell(now!.answers[i] ?? "", reference, "now") : element("td", "empty", ["–"])])];
  }));
  $("story").replaceChildren(...(was?.answers.length ? [element("span", "", [element("i", "", ["Before: “", OPENING, " "]), `${was.answers[questions.length]}…”`]), ...(shown!.rows.length ? [element("span", "", [element("i", "", ["Now: “", OPENING, " "]), now!.answers[questions.length] ? `${now!.answers[questions.length]}…”` : "” (it stops)"])] : [])] : []));
  $("mask").replaceChildren(...(now?.mask ?? []).map(({ tokens, losses, trained }) => element("p", "", tokens.slice(1).map((token, i) => {
    const loss = losses[i + 1], span = element("span", `token${trained[i + 1] ? "" : " off"}`, [token === " " ? "␣" : token === "" ? "·" : token.replaceAll("\n", " ↵ ")]);
    if (loss !== null) { span.style.setProperty("--heat", String(Math.min(1, loss / 6))); span.title = `${token ? "" : "first bytes of the next character, "}loss ${digits(loss)}${trained[i + 1] ? "" : ", not trained on"}`; }
    return span;
  }))));
  if (!now?.mask.length) $("mask").replaceChildren(element("p", "empty", ["Each token gets the color of its loss."]));
  showMap(now?.movement ?? {});
}

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 2 });
/** The scale of the map's colors, the same in every run: from this change to that, logarithmic. */
const FAINT = 0.003, STRONG = 0.3;
const COLUMNS = ["q", "k", "v", "o", "gate", "up", "down"];
function showMap(movement: Record<string, number>) {
  const at = (layer: number, m: string) => movement[`model.layers.${layer}.${/gate|up|down/.test(m) ? "mlp" : "self_attn"}.${m}_proj.weight`] ?? 0;
  const embedding = movement["model.embed_tokens.weight"] ?? 0, head = movement.head;
  const percent = (v: number) => v > 10 ? ">999" : v === 0 ? "0" : v < 0.001 ? "<0.1" : v < 0.1 ? (v * 100).toFixed(1) : Number.isFinite(v) ? COMPACT.format(v * 100) : "nan";
  const cell = (v: number, span = 1) => { const td = element("td", "", [percent(v)]) as HTMLTableCellElement; td.colSpan = span; td.style.setProperty("--heat", String(Math.min(1, Math.max(0, Math.log(v / FAINT) / Math.log(STRONG / FAINT))))); return td; };
  const table = element("table", "", [element("caption", "hidden", ["Change of each matrix in percent of its start"])]);
  table.append(element("colgroup", "", [element("col"), ...COLUMNS.map(() => element("col"))]), element("thead", "", [element("tr", "", [element("td"), ...COLUMNS.map((m) => { const th = element("th", "", [m]); th.setAttribute("scope", "col"); return th; })])]));
  const row = (name: string, cells: HTMLElement[]) => { const th = element("th", "", [name]); th.setAttribute("scope", "row"); return element("tr", "", [th, ...cells]); };
  table.append(element("tbody", "", [
    ...(head === undefined ? [] : [row("head", [cell(head, 7)])]),
    ...[3, 2, 1, 0].map((l) => row(`layer ${l + 1}`, COLUMNS.map((m) => cell(at(l, m))))), row("embedding", [cell(embedding, 7)])]));
  const key = element("span", "key", []);
  key.setAttribute("aria-hidden", "true");
  $("map").replaceChildren(table, element("p", "legend", [`${percent(FAINT)} `, key, ` ${percent(STRONG)} percent of the size at the start and more, in every run. The usual rate of Full moves them by about 2 percent; ten times that rate, which breaks the English, by 16 to 35. Between methods this does not compare: LoRA moves them more than Full and forgets no more. The text enters at the bottom. Attention: q asks what a token looks for, k what it offers, v what it passes on, o writes that back. MLP: gate and up compute features of each token, down writes them back.`]));
}

function showRuns() {
  const done = runs.filter((run) => run.rows.length && run.status !== "running");
  $("runs").replaceChildren(...(done.length ? [...done].reverse().map((run) => {
    const again = element("button", "", ["Use settings"]) as HTMLButtonElement;
    again.type = "button"; again.setAttribute("aria-label", `Use the settings of run ${run.id}`);
    again.onclick = () => { config = { ...run.config }; rateNote = limitNote = ""; if (run.own.length) { own = run.own; fillBox(); say(""); } showForm(); showCurves(); };
    const state = run.status === "diverged" ? " (diverged)" : run.status === "finished" ? "" : ` (${run.rows.length} steps)`;
    return element("tr", run === current ? "current" : "", [String(run.id), nameOf(run) + state, run.trainable.toLocaleString("en"), digits(last(run, "val_loss")), digits(last(run, "general_loss")), again].map((c, i) => { const td = element("td", "", [c]); td.dataset.label = ["", "", "trained", "val_loss", "general_loss", ""][i]; return td; }));
  }) : [element("tr", "", [(() => { const td = element("td", "empty", [`The last ${MOST_RUNS} runs are kept here, and those on the same data behind the curves.`]) as HTMLTableCellElement; td.colSpan = 6; return td; })()])]));
  const same = comparable().filter((run) => done.includes(run)), others = done.length - same.length, first = same[0] ?? shownRun();
  const gone = (runs[0]?.id ?? 1) - 1;
  $("kept").textContent = gone ? `the last ${MOST_RUNS}: ${gone > 1 ? `runs 1 to ${gone} are` : "run 1 is"} gone; Export runs saves those that are here` : runs.length < MOST_RUNS ? "" : `the last ${MOST_RUNS} are kept: the next run removes run 1, unless Export runs saved it`;
  $("chosen").textContent = `Choose a mark to read its run. ${others ? `${others} run${others > 1 ? "s" : ""} on other data ${others > 1 ? "are" : "is"} not drawn.` : ""}`;
  drawFrontier($("frontier-chart"), same.filter((r) => Number.isFinite(last(r, "val_loss"))).map((run) => ({ x: last(run, "val_loss"), y: last(run, "general_loss"), current: run === current, shape: run.config.method, id: run.id, name: `run ${run.id}, ${nameOf(run)}` })),
    first && Number.isFinite(first.before.val_loss) ? { x: first.before.val_loss, y: first.before.general_loss } : undefined,
    (p) => { $("chosen").textContent = `Chosen: ${p.name}: val_loss ${digits(p.x)}, general_loss ${digits(p.y)}.`; });
  $<HTMLButtonElement>("export").disabled = !done.length;
}

/** What happened in a run, in two sentences that use the words of the course. */
function showVerdict() {
  const host = $("verdict"), run = current;
  if (!run) { host.textContent = `${runs.length ? `${wasReset ? "Back to the untrained model" : "The runs from before are in the table below"}. Change something and train again` : `Press Train to teach this small language model ${TASKS[config.data]}`}. Watch two things: does it learn the task, and does it forget its English?`; return; }
  if (run.status === "running" && run.rows.length && !changed().length) {
    const words = "Training… You can move the learning rate while it runs.";
    if (host.textContent !== words) host.textContent = words; // else a screen reader repeats it
    return;
  }
  if (!run.rows.length) { host.textContent = "Measuring the model before the first step…"; return; }
  const stale = changed(), ended = run.status !== "running" && run.status !== "paused";
  const parts: Part[] = stale.length ? [["stale", `This is run ${run.id}. You have changed ${stale.join(" and ")} since; press Train to try that. `]] : [];
  if (ended) parts.push(...verdict(run), ["", ` ${compared(run, runs)}`], ...justSolved.map((n): Part => ["right", ` ✓ Challenge ${n + 1} is solved: ${CHALLENGES[n].title.replace("?", "")}.`]));
  else parts.push(["", run.status === "paused" ? pausedWords(run) : "It still trains with its own settings."]);
  const shown = parts.map(([kind, words]) => words && element("span", kind, [words])), words = parts.map((p) => p[1]).join("");
  if (host.textContent !== words) host.replaceChildren(...shown); // else a screen reader repeats it
}

/** What a single step did, and how old the evaluations are. */
function pausedWords({ rows, config }: PageRun): string {
  const row = rows[rows.length - 1], measured = rows.filter((r) => r.val_loss !== undefined).pop()?.step ?? 0;
  return `Paused after ${row.step} of ${config.max_steps} steps. The loss of this batch was ${digits(row.loss)}; the answers and val_loss are those of step ${measured}.`;
}

/** Whether the kept runs solve the open challenge, which was open until now. */
function settle(): boolean {
  const words = solved.has(challenge) ? undefined : solvedBy(CHALLENGES[challenge], runs);
  if (words !== undefined) { solved.set(challenge, words); remember(); }
  return words !== undefined;
}

/** What Set it up has said, and the settings for which that holds. */
let setUp = "", setUpFor = "", cardShown = "";
function showChallenges() {
  settle();
  if (setUpFor !== JSON.stringify(config)) setUp = "";
  $("challenge-numbers").replaceChildren(...CHALLENGES.map((c, i) => {
    const button = element("button", solved.has(i) ? "solved" : "", [`${solved.has(i) ? "✓ " : ""}${i + 1}. ${c.short}`]) as HTMLButtonElement;
    button.type = "button"; button.setAttribute("aria-pressed", String(i === challenge));
    if (solved.has(i)) button.setAttribute("aria-label", `${i + 1}. ${c.short}, solved`);
    button.onclick = () => { challenge = i; setUp = ""; writeHash(); showChallenges(); ($("challenge-numbers").children[i] as HTMLElement).focus(); };
    return button;
  }));
  // Drawn only when it changes: a closed hint or a lost focus would disturb.
  const c = CHALLENGES[challenge], guessed = guesses[challenge], attempt = current && /finished|diverged/.test(current.status) && !changed().length ? judged(c, current, runs, guessed) : undefined;
  const card = JSON.stringify([challenge, guessed, setUp, solved.get(challenge), attempt]);
  if (card === cardShown) return;
  cardShown = card;
  const { question, options, right } = c.guess;
  const parts: HTMLElement[] = [element("h3", "", [c.title]), element("p", "", [c.goal])];
  if (solved.has(challenge)) {
    const p = element("p", "explained", [`✓ Solved: ${solved.get(challenge)} `, guessed === undefined ? "" : guessed === right ? "You guessed right. " : `You guessed “${options[guessed]}”; measured here: “${options[right]}”. `, c.why, " "]);
    p.append(lessonLink(c.lesson));
    parts.push(p);
  } else {
    const choices = options.map((words, i) => {
      const button = element("button", "", [words]) as HTMLButtonElement;
      button.type = "button"; button.setAttribute("aria-pressed", String(i === guessed));
      button.onclick = () => { guesses[challenge] = i; remember(); showChallenges(); document.querySelectorAll<HTMLElement>("#challenge .guess button")[i].focus(); };
      return button;
    });
    const ask = element("div", "row guess", [`Guess first: ${question}`, ...choices]);
    ask.setAttribute("role", "group"); ask.setAttribute("aria-label", question);
    const set = element("button", "", ["Set it up"]) as HTMLButtonElement;
    set.type = "button";
    set.onclick = () => {
      config = begun(c);
      rateNote = limitNote = "";
      setUp = `Set: ${nameOf({ config, own: [], changes: [] })}. To try your guess, change that setting too. Then press Train.`; setUpFor = JSON.stringify(config);
      showForm(); showCurves(); showChallenges(); $("train").focus();
    };
    const hint = element("details", "", [element("summary", "", ["Hint"]), element("p", "", [c.hint])]);
    parts.push(ask, element("div", "row", [set, setUp]), ...(attempt ? [element("p", "attempt", [`Not yet: ${attempt.words}`])] : []), hint);
  }
  $("challenge").replaceChildren(...parts);
}

function showControls() {
  const running = current?.status === "running", label = running && fits() ? "Pause" : isOpen() && fits() ? "Resume" : "Train";
  document.body.classList.toggle("running", running && fits());
  const train = $<HTMLButtonElement>("train");
  train.disabled = false; train.querySelector("span")!.textContent = !ready && current ? "Loading" : label;
  $<HTMLButtonElement>("step").disabled = !!running && fits();
  // A run that goes on while other settings are chosen can still be paused.
  const pause = $("pause"), name = `${running ? "Pause" : "Resume"} run ${current?.id}`;
  pause.hidden = !isOpen() || fits();
  pause.classList.toggle("runs", running);
  pause.title = name; pause.setAttribute("aria-label", name);
}
function showAll() { showWhose(); showCurves(); showLook(); showRuns(); showChallenges(); showVerdict(); }

// ------------------------------------------------------------------------- own pairs

function say(message: string, problem = false) {
  const p = $("own-message"), unused = own.length > 0 && box.value !== readText;
  if (p.textContent !== message) p.textContent = message; // else a screen reader repeats it
  p.className = problem ? "problem" : "";
  box.classList.toggle("unused", unused); $("back").hidden = !unused;
}
/** Show the pairs in use in the box. */
function fillBox() {
  box.value = own.map(({ instruction, input, output }) => JSON.stringify(input ? { instruction, input, output } : { question: instruction, answer: output })).join("\n");
  readText = box.value; refused = undefined; readFrom = ""; unusedColumns = [];
}
/** What is in use of the reader's pairs, with the settings as they are. */
function pairsInUse(): string {
  const short = (words: string) => `“${words.length > 40 ? `${words.slice(0, 40)}…` : words}”`;
  return `${readFrom}${own.length} pairs. The first: ${short(own[0].instruction)} → ${short(own[0].output)}. ${usedPairs(own, config)}${unusedColumns.length ? ` Not used: ${unusedColumns.join(", ")}.` : ""} Press Train.`;
}
/** Use what is in the box; says why not, and gives false, where it cannot be read. */
async function usePairs(title = ""): Promise<boolean> {
  const raw = box.value;
  try {
    const { pairs, unused } = parsePairs(raw, await loadTokenizer());
    own = pairs; readText = raw; readFrom = title; unusedColumns = unused; refused = undefined; config.data = "own";
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    refused = raw;
    $("own-message").scrollIntoView({ block: "nearest" });
    say(`${title}${error.message}${own.length ? ` The ${own.length} pairs from before are still in use: Train trains on those.` : ""}`, true);
  }
  showForm();
  return readText === raw;
}
function boxEdited() {
  say(edited() ? "Not in use yet. Train reads what is in the box." : "", edited());
  showForm();
}
async function loadTokenizer(): Promise<Tokenizer> {
  if (tokenizer) return tokenizer;
  const bytes = Uint8Array.from(atob(text("data-samples")), (c) => c.charCodeAt(0));
  const unpacked = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const { vocabulary, merges } = JSON.parse(unpacked) as Loaded;
  return tokenizer = new Tokenizer(vocabulary, merges);
}
async function useFile(file: File | undefined) {
  if (!file) return;
  config.data = "own"; showForm();
  if (file.size > MOST_BYTES) { say(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB. The playground takes at most 200 pairs and 1 MB; for more, use ftkit in Python.`, true); return; }
  const raw = await file.text();
  box.value = raw;
  await usePairs(`${file.name}: `);
}
const EXAMPLE = ["question,answer", ...["cat", "dog", "cow", "bird", "fish", "horse", "sheep", "duck", "mouse", "lion", "bear", "fox"].map((animal) => `Greet the ${animal}.,Good morning ${animal}!`), ...["apple", "pear", "plum", "cake", "bread", "soup", "rice", "milk"].map((food) => `Do you like ${food}?,Yes I love ${food}.`)].join("\n");

// ------------------------------------------------------------------------- share, export, keys

function dialog(title: string, words: string, code: string, pairs: Pair[] = []) {
  $("dialog-title").textContent = title; $("dialog-text").textContent = words; $("dialog-code").textContent = code;
  $("dialog-save").hidden = !pairs.length;
  $("dialog-save").onclick = () => download("pairs.jsonl", pairs.map((p) => JSON.stringify({ instruction: p.instruction, input: p.input ?? "", output: p.output })).join("\n") + "\n");
  $("dialog-copy").onclick = async () => { await copy(code); $("dialog-copy").textContent = "Copied"; };
  $("dialog-copy").textContent = "Copy";
  $<HTMLDialogElement>("dialog").showModal();
}
async function copy(words: string): Promise<boolean> { try { await navigator.clipboard.writeText(words); return true; } catch { return false; } }
function download(name: string, words: string) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([words], { type: "application/json" })); a.download = name; a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10_000);
}
async function share() {
  writeHash();
  let link = location.href.replace(/#$/, "") + "&run=1", note = "The link trains with the settings below, and gives the same curve on any machine: ";
  note += `${nameOf({ config, own, changes: [] })}.${current && changed().length ? ` That is not run ${current.id}, which the page still shows.` : ""}`;
  if (config.data === "own" && own.length) {
    const pairs = encodeURIComponent(JSON.stringify(own));
    if (pairs.length <= MOST_SHARED) { link += `&pairs=${pairs}`; note += ` Your ${own.length} pairs are in the link, for whoever has it.`; } else note = "Your table is too long for a link: whoever opens it has to paste the table too, and press Train.";
  }
  if (movedRate !== undefined || current?.changes.length) note += " It starts with the learning rate that is set now; changes during a run are not in it.";
  if (edited()) note += " What is in the box of pairs is not in use yet, and not in the link.";
  dialog("Copy link", note, link);
  if (await copy(link)) $("dialog-copy").textContent = "Copied";
}

const KEPT = "ftkit-playground";
function remember() {
  try { sessionStorage.setItem(KEPT, JSON.stringify({ runs: runs.filter((run) => run.rows.length).map((run) => ({ ...run, status: run.status === "running" || run.status === "paused" ? "ended" : run.status })), solved: [...solved], guesses, nextId }, (_, v) => typeof v === "number" && !Number.isFinite(v) ? "NaN" : v)); } catch { /* a full or forbidden store only forgets runs on reload */ }
}
function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null", (_, v) => v === "NaN" ? NaN : v);
    if (kept) { runs = kept.runs; nextId = kept.nextId; for (const [n, words] of kept.solved) solved.set(n, words); Object.assign(guesses, kept.guesses); }
  } catch { /* kept by an older page */ }
}

const dark = matchMedia("(prefers-color-scheme: dark)"), systemTheme = () => dark.matches ? "dark" : "light";
/** A theme that is not the system's is kept; else the page follows the system. */
function setTheme(theme: string) { document.documentElement.dataset.theme = theme; try { if (theme === systemTheme()) localStorage.removeItem(`${KEPT}-theme`); else localStorage.setItem(`${KEPT}-theme`, theme); } catch { /* only this visit */ } }
function chosenTheme() { try { return localStorage.getItem(`${KEPT}-theme`); } catch { return null; } }
dark.addEventListener("change", () => { document.documentElement.dataset.theme = chosenTheme() ?? systemTheme(); });
document.documentElement.dataset.theme = chosenTheme() ?? systemTheme();

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => { if ((event.target as HTMLElement).getAttribute("name") === "learning_rate") rateMoved(); else if ((event.target as HTMLInputElement).type !== "number") { readForm(); showCurves(); } });
form.addEventListener("change", (event) => { if ((event.target as HTMLElement).getAttribute("name") !== "learning_rate") { readForm(); showCurves(); } });
$("train").onclick = trainOrPause; $("step").onclick = oneStep; $("reset").onclick = reset;
$("share").onclick = share;
$("python").onclick = () => {
  const stale = current && changed().length, words = [stale ? `These are the settings as they are now, not those of run ${current!.id}: ${nameOf({ config, own, changes: [] })}.` : "These lines repeat the run with ftkit, where every step can be looked into."];
  if (config.method === "head") words.push("ftkit has no method that trains the head alone; Full is the nearest one, and its losses differ.");
  if (current?.changes.length && !stale) words.push("They keep one learning rate: the changes during the run are not in them.");
  if (config.data === "own") words.push("Save pairs.jsonl beside them first.");
  dialog("Open in Python", words.join(" "), pythonLine(config), config.data === "own" ? own : []);
};
$("export").onclick = () => {
  const done = runs.filter((run) => run.rows.length);
  download("ftkit-playground-runs.json", JSON.stringify(done.map(exported), null, 1));
  $("exported").textContent = `Saved ${done.length} run${done.length > 1 ? "s" : ""} as ftkit-playground-runs.json.`;
  setTimeout(() => { $("exported").textContent = ""; }, 6000);
};
$("theme").onclick = () => { setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); };
$("dialog-close").onclick = () => $<HTMLDialogElement>("dialog").close();
$("start-over").onclick = (event) => { event.preventDefault(); runs = []; solved.clear(); for (const n in guesses) delete guesses[n]; nextId = 1; reset(); };
$("pause").onclick = () => { pauseOrResume(); showControls(); showVerdict(); };
$("more-usual").onclick = () => { for (const [key] of MORE) (config as any)[key] = DEFAULT[key]; limitNote = ""; showForm(); showCurves(); $("train").focus(); };
$("usual").onclick = () => { config.learning_rate = LEARNING_RATES[config.method]; rateNote = limitNote = ""; showForm(); document.querySelector<HTMLElement>("[name=learning_rate]")!.focus(); };
box.oninput = boxEdited;
$("use").onclick = () => usePairs();
$("back").onclick = () => { fillBox(); boxEdited(); box.focus(); };
$("example").onclick = () => { box.value = EXAMPLE; usePairs(); };
$("file").onchange = (event) => useFile((event.target as HTMLInputElement).files?.[0]);
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("dropping"); useFile(event.dataTransfer?.files[0]); });
addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("textarea, select, [type=number], [type=file]") || document.querySelector("dialog[open]")) return;
  const pressed = target.matches("button, input, summary, a"); // Space belongs to these
  if (event.key === " " && !pressed) { event.preventDefault(); trainOrPause(); } else if (event.key === "s" && ready && !(current?.status === "running" && fits())) oneStep(); else if (event.key === "r") reset();
});
addEventListener("click", (event) => { const more = document.querySelector<HTMLDetailsElement>(".more")!; if (more.open && !more.contains(event.target as Node)) more.open = false; });
if (matchMedia("(max-width: 640px)").matches) document.querySelectorAll<HTMLDetailsElement>(".fold").forEach((card) => { card.open = false; });
document.querySelector(".frontier")!.addEventListener("toggle", showRuns);
addEventListener("resize", () => { showCurves(); showRuns(); });
addEventListener("hashchange", () => { readHash(); showForm(); showAll(); });
for (const id of ["task-chart", "general-chart"]) {
  for (const kind of ["pointermove", "pointerdown"] as const) $(id).addEventListener(kind, point);
  // A finger that is lifted leaves its reading.
  $(id).addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") { pointed = undefined; showReadout(); } });
}

/** For the tests. */
(globalThis as any).playground = { runs: () => runs, current: () => current, memory: () => memory };

readHash();
recall();
showForm();
showAll();
