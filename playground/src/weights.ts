// The stored weights: whole numbers of 16 bits, times a scale for each row of a matrix.
//
// One gzip stream: the scales and the norms in float32, then the low bytes of all numbers, then the
// high ones, which compress. A float16 of the same size rounds eight times as much.

import { MATRICES, SHAPE, TENSORS, Weights } from "./engine.ts";

const isMatrix = (n: number) => n > SHAPE.ff;
const width = (name: string) => /down_proj/.test(name) ? MATRICES.down_proj[1] : SHAPE.d;

export function pack(weights: Weights): Uint8Array {
  const floats: number[] = [], low: number[] = [], high: number[] = [];
  for (const [name, n] of TENSORS) {
    const values = weights[name], row = width(name);
    if (!isMatrix(n)) { floats.push(...values); continue; }
    for (let start = 0; start < n; start += row) {
      const part = values.subarray(start, start + row);
      const scale = Math.fround(part.reduce((top, v) => Math.max(top, Math.abs(v)), 0) / 32767);
      floats.push(scale);
      for (const v of part) {
        const whole = scale ? Math.max(-32767, Math.min(32767, Math.round(v / scale))) : 0;
        low.push(whole & 255); high.push((whole >> 8) & 255);
      }
    }
  }
  const out = new Uint8Array(floats.length * 4 + low.length * 2);
  out.set(new Uint8Array(Float32Array.from(floats).buffer));
  out.set(low, floats.length * 4);
  out.set(high, floats.length * 4 + low.length);
  return out;
}

export function unpack(bytes: Uint8Array): Weights {
  const matrices = TENSORS.filter(([, n]) => isMatrix(n)).reduce((sum, [, n]) => sum + n, 0);
  const floats = new Float32Array(bytes.slice(0, bytes.length - 2 * matrices).buffer), out: Weights = {};
  let f = 0, at = bytes.length - 2 * matrices;
  for (const [name, n] of TENSORS) {
    if (!isMatrix(n)) { out[name] = floats.slice(f, f += n); continue; }
    const row = width(name), values = out[name] = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      if (i % row === 0 && i) f++;
      values[i] = ((bytes[at] | bytes[at + matrices] << 8) << 16 >> 16) * floats[f];
      at++;
    }
    f++;
  }
  return out;
}

/** safetensors of float32. */
export function fromSafetensors(file: ArrayBuffer): Weights {
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  return Object.fromEntries(TENSORS.map(([name]) => {
    const [from, to] = header[name].data_offsets;
    return [name, new Float32Array(file.slice(8 + length + from, 8 + length + to))];
  }));
}
