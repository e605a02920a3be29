// Builds dist/index.html, one file that needs no server and no network, and dist/engine.mjs for Node.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url)), top = dirname(here), dist = join(here, "dist");
const read = (name) => readFileSync(join(top, name));
const lines = (name) => read(`data_samples/${name}.jsonl`).toString().trim().split("\n").map((line) => JSON.parse(line));
const base64 = (bytes) => gzipSync(bytes, { level: 9 }).toString("base64");
mkdirSync(dist, { recursive: true });

execFileSync(process.execPath, [join(here, "node_modules/assemblyscript/bin/asc.js"), join(here, "kernels/kernels.ts"),
  "--outFile", join(dist, "kernels.wasm"), "-O3", "--runtime", "stub", "--importMemory", "--enable", "simd", "--noAssert"],
  { stdio: "inherit" });

const options = { bundle: true, target: "es2022", logLevel: "warning", charset: "utf8" };
await esbuild.build({ ...options, entryPoints: [join(here, "src/node.ts")], format: "esm", platform: "node", outfile: join(dist, "engine.mjs") });
const { pack, fromSafetensors } = await import(join(dist, "engine.mjs"));

const model = read("ftkit/model/tiny/model.safetensors");
const weights = pack(fromSafetensors(model.buffer.slice(model.byteOffset, model.byteOffset + model.length)));
writeFileSync(join(dist, "weights.bin"), weights);

const { vocab, merges } = JSON.parse(read("ftkit/model/tiny/tokenizer.json")).model;
const pairs = (name) => lines(name).map(({ instruction, input, output }) => ({ instruction, input, output }));
const task = (name) => ({ train: pairs(`${name}.train`), validation: pairs(`${name}.validation`) });
const texts = (name) => lines(name).map((record) => record.text);
const data = JSON.stringify({
  vocabulary: Object.entries(vocab).sort((a, b) => a[1] - b[1]).map(([token]) => token),
  merges: merges.map((pair) => pair.join(" ")),
  samples: {
    translation: task("translation"), tasks: task("tasks"),
    general: { train: texts("general.train"), validation: texts("general.validation") },
  },
});
writeFileSync(join(dist, "data.json"), data);

const bundle = async (entry, format = "iife") => (await esbuild.build({
  ...options, entryPoints: [join(here, "src", entry)], format, minify: true, write: false })).outputFiles[0].text;
const css = (await esbuild.build({ ...options, entryPoints: [join(here, "src/page.css")], minify: true, write: false })).outputFiles[0].text;
const script = (text) => text.replaceAll("</script", "<\\/script");
const parts = {
  style: css,
  weights: base64(weights),
  data: base64(data),
  kernels: base64(readFileSync(join(dist, "kernels.wasm"))),
  worker: script(await bundle("worker.ts")),
  page: script(await bundle("page.ts")),
};
const page = readFileSync(join(here, "src/page.html"), "utf8").replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
writeFileSync(join(dist, "index.html"), page);
const size = (n) => `${(n / 1e6).toFixed(2)} MB`;
console.log(`dist/index.html: ${size(Buffer.byteLength(page))}, ${size(gzipSync(page, { level: 9 }).length)} compressed`);
