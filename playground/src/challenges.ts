// Six things to bring about, each solved by a run and explained in five sentences.

import { Config, DEFAULT, LEARNING_RATES } from "./config.ts";
import type { PageRun } from "./page.ts";
import { digits } from "./charts.ts";
import { KEPT, last, NAMES, rates } from "./verdict.ts";

export interface Challenge {
  /** short: the name on its button. guess: asked before the run; right is an index of options, and
   * tries are the settings that try each of them out. */
  title: string; short: string; goal: string; hint: string; why: string;
  guess: { question: string; options: string[]; right: number; tries?: Partial<Config>[] };
  /** Lesson that goes deeper: file name of its notebook. */
  lesson: string;
  /** Settings to begin with. */
  start: Partial<Config>;
  /** Whether a finished run, maybe with another one, brings it about, and the numbers that decide. */
  judge: (run: PageRun, others: PageRun[]) => Outcome;
}
export interface Outcome { solved: boolean; words: string }
const val = (run: PageRun) => last(run, "val_loss"), general = (run: PageRun) => last(run, "general_loss");
/** Whether two runs share all settings but these. */
const alike = (a: PageRun, b: PageRun, ...but: (keyof Config)[]) => (Object.keys(a.config) as (keyof Config)[])
  .every((key) => but.includes(key) || a.config[key] === b.config[key]) && sameTable(a, b) && !a.changes.length && !b.changes.length;
const sameTable = (a: PageRun, b: PageRun) => a.config.data !== "own" || JSON.stringify(a.own) === JSON.stringify(b.own);
/** A number with enough digits to see on which side of a limit it is. */
const against = (x: number, limit: number) => digits(x) === digits(limit) ? fine(x) : digits(x);
const fine = (x: number) => String(+x.toPrecision(4));
const ended = (run: PageRun) => `run ${run.id} (${NAMES[run.config.method]}, learning rate ${rates(run)}) ended at val_loss ${digits(val(run))}`;
/** The outcome with the first partner that solves it, else with the newest one. */
function withPartner(partners: PageRun[], none: string, judge: (other: PageRun) => Outcome): Outcome {
  const outcomes = partners.map(judge);
  return outcomes.find((o) => o.solved) ?? outcomes[outcomes.length - 1] ?? { solved: false, words: none };
}

export const CHALLENGES: Challenge[] = [
  {
    title: "Make it forget everything", short: "Forget everything",
    guess: { question: "What will do it, from Full with 0.001 and 30 steps?", options: ["Ten times the learning rate", "Ten times the steps", "Four times the batch"], right: 0, tries: [{ learning_rate: 1e-2 }, { max_steps: 300 }, { batch_size: 64 }] },
    goal: "Bring general_loss above 8, where it is about as bad at everyday English as guessing evenly, or worse.",
    hint: "With one method, a higher learning rate means more forgetting. How far the weights moved does not decide alone: here LoRA at 0.005 and Full at 0.002 both moved them by about 4 percent, and general_loss ended at 0.97 and 1.75.",
    why: "The learning rate scales each step, and steps that are too large leave the region where pretraining made sense. "
      + "Nothing in the training data asks the model to keep its English, so nothing pulls the weights back. "
      + "A loss of 8.03 is what you get by guessing evenly among all 3,072 tokens. "
      + "The task suffers as well, because it builds on the same weights. "
      + "With Full, ten times the usual rate brought general_loss from 0.82 to 10.8, ten times the steps only to 1.5.",
    lesson: "16_catastrophic_forgetting", start: { method: "full" },
    judge: (run) => ({ solved: general(run) > 8, words: `run ${run.id} ended at general_loss ${against(general(run), 8)}; wanted: above 8` }),
  },
  {
    title: "Learn the task and keep the English", short: "Keep the English",
    guess: { question: "Full with 0.005 ends at a general_loss of 6.4. What keeps the English?", options: ["Twice the steps", "A tenth of the learning rate", "Four times the batch"], right: 1, tries: [{ max_steps: 60 }, { learning_rate: 5e-4 }, { batch_size: 64 }] },
    goal: "Reach a val_loss below 0.1 while general_loss rises by less than 5 percent: it starts at 0.82 and may reach 0.86.",
    hint: "Try a smaller learning rate, or open More and mix in general text with Replay.",
    why: "A smaller learning rate learns this task with less damage to what the weights did before. "
      + "Replay mixes general text into the batches, so the loss itself asks the model to keep its English. "
      + "Both lower the forgetting, and replay costs a part of each batch. "
      + "In “Learning or forgetting?” such runs are in the lower left corner. "
      + "Watching a loss that is not the task's, as general_loss here, is the only way to notice forgetting in time.",
    lesson: "16_catastrophic_forgetting", start: { method: "full", learning_rate: 5e-3 },
    judge: (run) => {
      const most = KEPT * run.before.general_loss;
      return { solved: val(run) < 0.1 && general(run) < most,
        words: `run ${run.id} ended at val_loss ${against(val(run), 0.1)}, wanted: below 0.1, and general_loss ${against(general(run), most)}, wanted: below ${against(most, general(run))}` };
    },
  },
  {
    title: "Overfit eight records", short: "Overfit",
    guess: { question: "Full trains on eight records until it knows them by heart. What does val_loss do?", options: ["It falls to the end", "It falls, then rises", "It rises from the start"], right: 1 },
    goal: "Train on eight records until the training loss is below 0.01 and val_loss has risen by a fifth from its lowest point.",
    hint: "The button limits the training to eight records. If the training loss is still too high, take more steps.",
    why: "Eight pairs are quickly memorized by 2.4 million weights: the training loss goes to zero. "
      + "val_loss is measured on other questions, and there the model first gains and then loses. "
      + "After its lowest point val_loss does not come back to it, though it may fall a part of the way, while the training loss goes on falling: only the memory of eight sentences still improves. "
      + "Early stopping would have kept the model of the lowest point. "
      + "More data, fewer trained parameters or a smaller learning rate move that point further to the right.",
    lesson: "17_overfitting", start: { train_records: 8, method: "full", batch_size: 8 },
    judge: (run) => {
      const low = Math.min(...run.rows.flatMap((row) => row.val_loss ?? [])), loss = run.rows[run.rows.length - 1].loss, records = run.config.train_records;
      const few = records > 0 && records <= 8;
      if (!few) return { solved: false, words: `run ${run.id} trained on ${records || "all"} records; wanted: at most 8` };
      return { solved: loss < 0.01 && val(run) >= 1.2 * low,
        words: `run ${run.id} trained on ${records} records; the training loss of its last step was ${against(loss, 0.01)}, wanted: below 0.01; val_loss ended at ${fine(val(run))} from a lowest of ${fine(low)}, wanted: at least ${fine(1.2 * low)}` };
    },
  },
  {
    title: "The same val_loss with a tenth of the parameters", short: "A tenth of the parameters",
    guess: { question: "With 30 steps on English to French, at a learning rate of 0.001 for Full, 0.005 for LoRA and 0.1 for IA3, which ends within 0.02 of Full?", options: ["LoRA of rank 8", "LoRA of rank 1", "IA3"], right: 0 },
    goal: "Make two runs on the same data: one whose val_loss is at most 0.02 above the other's, with at most a tenth of its trained parameters.",
    hint: "Train with Full once, then compare. The table of runs shows how many parameters each one trained.",
    why: "LoRA freezes the weights and adds to each matrix the product of two thin ones, of which only these are trained. "
      + "At rank 8 that is a twentieth of the model, and on this task it reaches the same val_loss. "
      + "The change that this easy task needs has a low rank, so few parameters are enough to describe it; a harder task can need more. "
      + "Gradients and the optimizer's memory shrink with the trained parameters, which is why LoRA fits on small GPUs. "
      + "Try rank 1, and IA3 with 3,584 parameters, to see where capacity runs out.",
    lesson: "02_lora", start: { method: "full" },
    judge: (run, others) => withPartner(others.filter((other) => alike(run, other, "method", "learning_rate", "r", "lora_alpha") && other.trainable !== run.trainable),
      `run ${run.id} has no partner yet: train one that differs only in the method, its learning rate or its rank`, (other) => {
        const [small, large] = run.trainable < other.trainable ? [run, other] : [other, run], times = large.trainable / small.trainable;
        return { solved: val(small) <= val(large) + 0.02 && val(large) < 0.5 && times >= 10,
          words: `${ended(small)}, ${ended(large)} with ${digits(times)} times the trained parameters; wanted: ten times, both below 0.5, and the first at most 0.02 higher` };
      }),
  },
  {
    title: "At which learning rate does LoRA equal Full?", short: "LoRA equals Full",
    guess: { question: "At which learning rate does LoRA equal Full at 5e-5?", options: ["The same, 5e-5", "Ten times as high, 5e-4", "A thousand times as high, 0.05"], right: 1 },
    goal: "Run Full at a learning rate of 5e-5. Then find the learning rate at which LoRA ends within 0.1 of its val_loss.",
    hint: "The same learning rate is too low for LoRA. Move it up step by step.",
    why: "Here LoRA usually needs a learning rate five to ten times as high: after 30 steps on English to French, Full at 5e-5 was measured at 0.15, LoRA at 5e-5 at 2.8 and at 5e-4 at 0.10. "
      + "Its update is the product of two small matrices, one of which starts at zero, so the first steps barely move the weights. "
      + "Full fine-tuning moves every weight directly, and at LoRA's usual 0.005 it loses its English: general_loss ends at 6.4. "
      + "The factor changes with rank, alpha and model, so try some rates for each. "
      + "Compare methods at the best learning rate of each.",
    lesson: "07_learning_rate", start: { method: "full", learning_rate: 5e-5 },
    judge: (run, others) => withPartner(others.filter((other) => alike(run, other, "method", "learning_rate", "r", "lora_alpha") && [run, other].some((r) => r.config.method === "full") && [run, other].some((r) => r.config.method === "lora")),
      /full|lora/.test(run.config.method) ? `run ${run.id} has no partner yet: train one with ${run.config.method === "full" ? "LoRA" : "Full at 5e-5"} and the other settings unchanged` : `run ${run.id} trained with ${NAMES[run.config.method]}; wanted: one run with Full at 5e-5 and one with LoRA`, (other) => {
        const full = run.config.method === "full" ? run : other, apart = Math.abs(val(run) - val(other));
        return { solved: val(full) > 0.05 && val(full) < 2 && apart <= 0.1,
          words: `${ended(run)}, ${ended(other)}: ${against(apart, 0.1)} apart; wanted: at most 0.1, with Full between 0.05 and 2` };
      }),
  },
  {
    title: "What does training on the question cost?", short: "Train on the question",
    guess: { question: "When the question is trained on too, val_loss after 30 steps is", options: ["lower", "about the same", "higher"], right: 2 },
    goal: "Make two runs that differ only in Loss on: once the answer, once question and answer. Compare their val_loss.",
    hint: "Loss on is under More. Look at the dashed tokens of What it learns from, too.",
    why: "With the loss on all tokens, most of each gradient teaches the model to predict questions, which nobody will ask it to write. "
      + "The answer has about 5 of 23 tokens here, so its share of the mean loss shrinks to a fifth. "
      + "At the same number of steps the answers are therefore learned more slowly, most clearly at a low learning rate. "
      + "The two training losses cannot be compared, because they are means over different tokens; val_loss counts answers only in both. "
      + "That is why instruction tuning masks the prompt.",
    lesson: "04_instruction_tuning", start: { method: "lora", learning_rate: 5e-4 },
    judge: (run, others) => withPartner(others.filter((other) => alike(run, other, "loss_on") && other.config.loss_on !== run.config.loss_on),
      `run ${run.id} has no partner yet: train one that differs only in Loss on`, (other) => {
        const [answer, both] = run.config.loss_on === "response" ? [run, other] : [other, run];
        return { solved: true, words: `val_loss ended at ${digits(val(answer))} in run ${answer.id}, with the loss on the answer, and at ${digits(val(both))} in run ${both.id}, with the loss on question and answer` };
      }),
  },
];

/** The settings that a challenge begins with. */
export function begun({ start }: Challenge): Config {
  const config = { ...DEFAULT, ...start };
  return { ...config, learning_rate: start.learning_rate ?? LEARNING_RATES[config.method] };
}

/** Whether the kept runs solve a challenge: the newest that does says how. */
export function solvedBy(challenge: Challenge, runs: PageRun[]): string | undefined {
  return [...runs].reverse().map((run) => judged(challenge, run, runs)).find((outcome) => outcome.solved)?.words;
}

/** What a run that has ended means for a challenge; an unlucky guess that it tried is named. */
export function judged(challenge: Challenge, run: PageRun, runs: PageRun[], guessed?: number): Outcome {
  if (run.status !== "finished") return { solved: false, words: `run ${run.id} did not reach its end.` };
  const outcome = challenge.judge(run, runs.filter((other) => other !== run && other.status === "finished"));
  const { tries, options } = challenge.guess, wanted = { ...begun(challenge), ...tries?.[guessed ?? -1] };
  const tried = tries && guessed !== undefined && (["method", "learning_rate", "max_steps", "batch_size"] as const).every((key) => run.config[key] === wanted[key]);
  return { solved: outcome.solved, words: `${outcome.words}.${tried && !outcome.solved ? ` So your guess, “${options[guessed]}”, was not it.` : ""}` };
}

/** A link where the lessons are beside the page, as on the site; else the name of the lesson. */
export function lessonLink(lesson: string): Node {
  const folder = document.querySelector<HTMLMetaElement>('meta[name="lessons"]')!.content;
  const title = `Lesson ${lesson.slice(0, 2)}: ${lesson.slice(3).replaceAll("_", " ")}`;
  if (!folder) {
    const p = document.createElement("span"), code = (words: string) => Object.assign(document.createElement("code"), { textContent: words });
    p.append(`${title} goes deeper: `, code(`${lesson}.ipynb`), ", which ", code("ftkit lab"), " opens.");
    return p;
  }
  const a = document.createElement("a");
  a.href = `${folder}${lesson}.html`;
  a.textContent = title;
  return a;
}
