// What the tests in Node and the build use.
export * from "./engine.ts";
export * from "./random.ts";
export * from "./tokenizer.ts";
export * from "./data.ts";
export * from "./config.ts";
export * from "./trainer.ts";
export * from "./weights.ts";
export * from "./verdict.ts";
export * from "./challenges.ts";
export { pythonLine } from "./export.ts";
