// The arithmetic of the model, compiled to WebAssembly with 128-bit SIMD.
//
// A pointer is a byte address of float32 (or int32) values in the one memory that the page
// allocates from. Matrices are row-major. Nothing here depends on the machine: no fused
// multiply-add, no function of the browser, so the same input gives the same bits everywhere.

// @ts-nocheck  AssemblyScript, not TypeScript

const LANES = 4;

@inline function at(p: usize, i: i32): usize { return p + (<usize>i << 2); }
@inline function get(p: usize, i: i32): f32 { return load<f32>(at(p, i)); }
@inline function set(p: usize, i: i32, v: f32): void { store<f32>(at(p, i), v); }
@inline function int(p: usize, i: i32): i32 { return load<i32>(at(p, i)); }
@inline function mul(a: v128, b: v128): v128 { return f32x4.mul(a, b); }
@inline function add4(a: v128, b: v128): v128 { return f32x4.add(a, b); }
@inline function madd(a: v128, b: v128, c: v128): v128 { return f32x4.add(f32x4.mul(a, b), c); }
@inline function sum4(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1))
    + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** exp of four numbers, within 2 units in the last place: 2^n times a polynomial (Cephes expf). */
@inline function exp4(x: v128): v128 {
  x = f32x4.max(f32x4.min(x, f32x4.splat(88.3)), f32x4.splat(-87.3));
  const n = f32x4.nearest(mul(x, f32x4.splat(1.44269504088896341)));
  x = f32x4.sub(x, mul(n, f32x4.splat(0.693359375)));
  x = f32x4.sub(x, mul(n, f32x4.splat(-2.12194440e-4)));
  let y = f32x4.splat(1.9875691500e-4);
  y = madd(y, x, f32x4.splat(1.3981999507e-3));
  y = madd(y, x, f32x4.splat(8.3334519073e-3));
  y = madd(y, x, f32x4.splat(4.1665795894e-2));
  y = madd(y, x, f32x4.splat(1.6666665459e-1));
  y = madd(y, x, f32x4.splat(5.0000001201e-1));
  y = add4(madd(mul(y, x), x, x), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return mul(y, power);
}

/** One exp; nan stays nan. */
@inline function exp1(x: f32): f32 { return f32x4.extract_lane(exp4(f32x4.splat(x)), 0); }

// ------------------------------------------------------------------------- matrix products

@inline function finish(c: usize, x: v128, y: v128, alpha: v128, accumulate: bool): void {
  x = mul(x, alpha); y = mul(y, alpha);
  if (accumulate) { x = add4(x, v128.load(c)); y = add4(y, v128.load(c, 16)); }
  v128.store(c, x); v128.store(c, y, 16);
}

/**
 * C[M, N] = alpha A B, added to C where `accumulate`. N is a multiple of 8.
 *
 * A[m, k] is at A + m * aRow + k * aCol and B[k, n] at B + k * bRow + n * bCol, so a transposed
 * matrix is one with its two strides exchanged. B is copied to panels of 8 columns, A to panels of
 * 6 rows; the 6 by 8 block of C stays in registers. scratch: N * K + 6 * K floats.
 */
export function gemm(A: usize, aRow: i32, aCol: i32, B: usize, bRow: i32, bCol: i32, C: usize,
                     M: i32, N: i32, K: i32, alpha: f32, accumulate: bool, scratch: usize): void {
  const scale = f32x4.splat(alpha);
  let panel = scratch;
  for (let n = 0; n < N; n += 8) {
    if (bCol == 1) {
      let b = at(B, n);
      for (let k = 0; k < K; k++) {
        v128.store(panel, v128.load(b)); v128.store(panel, v128.load(b, 16), 16);
        panel += 32; b += <usize>bRow << 2;
      }
    } else {
      for (let k = 0; k < K; k++) {
        const b = k * bRow + n * bCol;
        for (let j = 0; j < 8; j++) set(panel, j, get(B, b + j * bCol));
        panel += 32;
      }
    }
  }
  const rows = panel, stride = <usize>N << 2, length = <usize>K << 5;
  let m = 0;
  for (; m + 6 <= M; m += 6) {
    let a = at(A, m * aRow), p = rows;
    for (let k = 0; k < K; k++) {
      for (let i = 0; i < 6; i++) set(p, i, get(a, i * aRow));
      p += 24; a += <usize>aCol << 2;
    }
    let b = scratch;
    for (let n = 0; n < N; n += 8) {
      const end = b + length;
      let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
      let c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
      p = rows;
      for (; b < end; b += 32, p += 24) {
        const left = v128.load(b), right = v128.load(b, 16);
        let s = v128.load32_splat(p); c00 = madd(s, left, c00); c01 = madd(s, right, c01);
        s = v128.load32_splat(p, 4); c10 = madd(s, left, c10); c11 = madd(s, right, c11);
        s = v128.load32_splat(p, 8); c20 = madd(s, left, c20); c21 = madd(s, right, c21);
        s = v128.load32_splat(p, 12); c30 = madd(s, left, c30); c31 = madd(s, right, c31);
        s = v128.load32_splat(p, 16); c40 = madd(s, left, c40); c41 = madd(s, right, c41);
        s = v128.load32_splat(p, 20); c50 = madd(s, left, c50); c51 = madd(s, right, c51);
      }
      let c = at(C, m * N + n);
      finish(c, c00, c01, scale, accumulate); c += stride;
      finish(c, c10, c11, scale, accumulate); c += stride;
      finish(c, c20, c21, scale, accumulate); c += stride;
      finish(c, c30, c31, scale, accumulate); c += stride;
      finish(c, c40, c41, scale, accumulate); c += stride;
      finish(c, c50, c51, scale, accumulate);
    }
  }
  for (; m < M; m++) {
    let b = scratch;
    for (let n = 0; n < N; n += 8) {
      let left = f32x4.splat(0), right = left, a = at(A, m * aRow);
      const end = b + length;
      for (; b < end; b += 32, a += <usize>aCol << 2) {
        const s = v128.load32_splat(a);
        left = madd(s, v128.load(b), left); right = madd(s, v128.load(b, 16), right);
      }
      finish(at(C, m * N + n), left, right, scale, accumulate);
    }
  }
}

/** Y[M, N] = X W^T for a few rows, without copying W[N, K]. M and N are even, K a multiple of 4. */
export function fewRows(X: usize, W: usize, Y: usize, M: i32, N: i32, K: i32): void {
  const row = <usize>K << 2;
  for (let n = 0; n < N; n += 2) for (let m = 0; m < M; m += 2) {
    let w = at(W, n * K), x = at(X, m * K);
    const end = w + row;
    let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00;
    for (; w < end; w += 16, x += 16) {
      const w0 = v128.load(w), w1 = v128.load(w + row), x0 = v128.load(x), x1 = v128.load(x + row);
      c00 = madd(x0, w0, c00); c01 = madd(x0, w1, c01);
      c10 = madd(x1, w0, c10); c11 = madd(x1, w1, c11);
    }
    set(Y, m * N + n, sum4(c00)); set(Y, m * N + n + 1, sum4(c01));
    set(Y, (m + 1) * N + n, sum4(c10)); set(Y, (m + 1) * N + n + 1, sum4(c11));
  }
}

// ------------------------------------------------------------------------- rows and elements

export function zero(p: usize, n: i32): void { memory.fill(p, 0, <usize>n << 2); }
export function copy(to: usize, from: usize, n: i32): void { memory.copy(to, from, <usize>n << 2); }

/** y += x; n is a multiple of 4. */
export function add(y: usize, x: usize, n: i32): void {
  for (let i = 0; i < n; i += LANES) v128.store(at(y, i), add4(v128.load(at(y, i)), v128.load(at(x, i))));
}

/** Y[i] = X[rows[i]], rows of d numbers. */
export function gather(X: usize, rows: usize, Y: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) copy(at(Y, i * d), at(X, int(rows, i) * d), d);
}

/** X[rows[i]] += Y[i]. */
export function scatterAdd(X: usize, rows: usize, Y: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) add(at(X, int(rows, i) * d), at(Y, i * d), d);
}

/** Y[i, j] = X[i, j] * w[j], for IA3. */
export function scaleColumns(X: usize, w: usize, Y: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j += LANES)
    v128.store(at(Y, i * d + j), mul(v128.load(at(X, i * d + j)), v128.load(at(w, j))));
}

/** Y[i, j] = X[i, j] * w[i]. */
export function scaleRows(X: usize, w: usize, Y: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) {
    const s = f32x4.splat(get(w, i));
    for (let j = 0; j < d; j += LANES) v128.store(at(Y, i * d + j), mul(v128.load(at(X, i * d + j)), s));
  }
}

/** w[j] += sum over i of X[i, j] * Y[i, j]. */
export function columnDots(X: usize, Y: usize, w: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j += LANES)
    v128.store(at(w, j), madd(v128.load(at(X, i * d + j)), v128.load(at(Y, i * d + j)), v128.load(at(w, j))));
}

// ------------------------------------------------------------------------- the layers

/** Y = X / rms(X) * w; the reciprocals are kept in R. */
export function rmsNorm(X: usize, w: usize, Y: usize, R: usize, n: i32, d: i32, eps: f32): void {
  for (let i = 0; i < n; i++) {
    const x = at(X, i * d), y = at(Y, i * d);
    let s = f32x4.splat(0);
    for (let j = 0; j < d; j += LANES) { const v = v128.load(at(x, j)); s = madd(v, v, s); }
    const r: f32 = 1 / sqrt<f32>(sum4(s) / <f32>d + eps), all = f32x4.splat(r);
    set(R, i, r);
    for (let j = 0; j < d; j += LANES)
      v128.store(at(y, j), mul(mul(v128.load(at(x, j)), all), v128.load(at(w, j))));
  }
}

/** dX += the gradient of rmsNorm, and dw += that of w unless it is 0. */
export function rmsNormBack(X: usize, w: usize, R: usize, dY: usize, dX: usize, dw: usize, n: i32, d: i32): void {
  for (let i = 0; i < n; i++) {
    const x = at(X, i * d), dy = at(dY, i * d), dx = at(dX, i * d), r = get(R, i);
    let s = f32x4.splat(0);
    for (let j = 0; j < d; j += LANES)
      s = madd(mul(v128.load(at(dy, j)), v128.load(at(w, j))), v128.load(at(x, j)), s);
    const along = f32x4.splat(-sum4(s) * r * r * r / <f32>d), all = f32x4.splat(r);
    for (let j = 0; j < d; j += LANES) {
      const g = v128.load(at(dy, j)), v = v128.load(at(x, j));
      const straight = madd(mul(g, v128.load(at(w, j))), all, v128.load(at(dx, j)));
      v128.store(at(dx, j), madd(along, v, straight));
      if (dw) v128.store(at(dw, j), madd(mul(g, v), all, v128.load(at(dw, j))));
    }
  }
}

/** cos and sin of the rotary positions, [positions, half] each, one after the other. */
export function rotaryTable(table: usize, positions: i32, half: i32, theta: f64): void {
  for (let t = 0; t < positions; t++) for (let j = 0; j < half; j++) {
    const frequency = <f32>(1 / Math.pow(theta, <f64>j / half));
    const angle = <f64>(<f32>t * frequency);
    set(table, t * half + j, <f32>Math.cos(angle));
    set(table, (positions + t) * half + j, <f32>Math.sin(angle));
  }
}

/** Rotate every head of X[n, heads * 2 * half] in place; sign -1 rotates back. */
export function rotate(X: usize, position: usize, table: usize, positions: i32, n: i32, heads: i32,
                       half: i32, sign: f32): void {
  const s = f32x4.splat(sign);
  for (let i = 0; i < n; i++) {
    const c0 = at(table, int(position, i) * half), s0 = at(c0, positions * half);
    for (let h = 0; h < heads; h++) {
      const x = at(X, (i * heads + h) * 2 * half);
      for (let j = 0; j < half; j += LANES) {
        const a = v128.load(at(x, j)), b = v128.load(at(x, j + half));
        const cos = v128.load(at(c0, j)), sin = mul(s, v128.load(at(s0, j)));
        v128.store(at(x, j), f32x4.sub(mul(a, cos), mul(b, sin)));
        v128.store(at(x, j + half), madd(b, cos, mul(a, sin)));
      }
    }
  }
}

@inline function dot(a: usize, b: usize, n: i32): f32 {
  let s = f32x4.splat(0);
  for (let j = 0; j < n; j += LANES) s = madd(v128.load(at(a, j)), v128.load(at(b, j)), s);
  return sum4(s);
}
@inline function addScaled(y: usize, x: usize, s: f32, n: i32): void {
  const all = f32x4.splat(s);
  for (let j = 0; j < n; j += LANES) v128.store(at(y, j), madd(all, v128.load(at(x, j)), v128.load(at(y, j))));
}

// A query reads the keys of two ranges of rows: those of the prefix that its batch shares, and its
// own sequence up to itself. spans: five int32 a query, (prefix from, to, own from, to, offset in P).

/** O[n, heads * size]: causal attention; P keeps the probabilities. */
export function attend(Q: usize, K: usize, V: usize, O: usize, P: usize, spans: usize, n: i32,
                       heads: i32, size: i32, scale: f32): void {
  const d = heads * size;
  for (let i = 0; i < n; i++) {
    const span = at(spans, i * 5), a0 = int(span, 0), a1 = int(span, 1), b0 = int(span, 2), b1 = int(span, 3);
    const count = a1 - a0 + b1 - b0;
    for (let h = 0; h < heads; h++) {
      const q = at(Q, i * d + h * size), o = at(O, i * d + h * size), p = at(P, int(span, 4) + h * count);
      let top: f32 = -Infinity, sum: f32 = 0, t = 0;
      for (let j = a0; j < a1; j++) { const s = dot(q, at(K, j * d + h * size), size) * scale; set(p, t++, s); top = max(top, s); }
      for (let j = b0; j < b1; j++) { const s = dot(q, at(K, j * d + h * size), size) * scale; set(p, t++, s); top = max(top, s); }
      for (let k = 0; k < count; k++) { const e = exp1(get(p, k) - top); set(p, k, e); sum += e; }
      zero(o, size);
      t = 0;
      for (let j = a0; j < a1; j++) { const s = get(p, t) / sum; set(p, t++, s); addScaled(o, at(V, j * d + h * size), s, size); }
      for (let j = b0; j < b1; j++) { const s = get(p, t) / sum; set(p, t++, s); addScaled(o, at(V, j * d + h * size), s, size); }
    }
  }
}

/** Adds to dQ, dK and dV. scratch: as many floats as a query has keys. */
export function attendBack(Q: usize, K: usize, V: usize, dO: usize, P: usize, dQ: usize, dK: usize,
                           dV: usize, spans: usize, n: i32, heads: i32, size: i32, scale: f32,
                           scratch: usize): void {
  const d = heads * size;
  for (let i = 0; i < n; i++) {
    const span = at(spans, i * 5), a0 = int(span, 0), a1 = int(span, 1), b0 = int(span, 2), b1 = int(span, 3);
    const shared = a1 - a0, count = shared + b1 - b0;
    for (let h = 0; h < heads; h++) {
      const o = i * d + h * size, g = at(dO, o), p = at(P, int(span, 4) + h * count);
      let s: f32 = 0;
      for (let t = 0; t < count; t++) {
        const j = (t < shared ? a0 + t : b0 + t - shared) * d + h * size, w = get(p, t);
        const v = dot(g, at(V, j), size);
        set(scratch, t, v); s += v * w;
        addScaled(at(dV, j), g, w, size);
      }
      for (let t = 0; t < count; t++) {
        const j = (t < shared ? a0 + t : b0 + t - shared) * d + h * size;
        const w = get(p, t) * (get(scratch, t) - s) * scale;
        addScaled(at(dQ, o), at(K, j), w, size);
        addScaled(at(dK, j), at(Q, o), w, size);
      }
    }
  }
}

/** Y = silu(G) * U. */
export function swiglu(G: usize, U: usize, Y: usize, n: i32): void {
  const one = f32x4.splat(1);
  for (let i = 0; i < n; i += LANES) {
    const g = v128.load(at(G, i)), s = f32x4.div(g, add4(one, exp4(f32x4.neg(g))));
    v128.store(at(Y, i), mul(s, v128.load(at(U, i))));
  }
}

/** G and U are overwritten by their gradients. */
export function swigluBack(G: usize, U: usize, dY: usize, n: i32): void {
  const one = f32x4.splat(1);
  for (let i = 0; i < n; i += LANES) {
    const g = v128.load(at(G, i)), u = v128.load(at(U, i)), dy = v128.load(at(dY, i));
    const s = f32x4.div(one, add4(one, exp4(f32x4.neg(g))));
    v128.store(at(G, i), mul(mul(dy, u), mul(s, madd(g, f32x4.sub(one, s), one))));
    v128.store(at(U, i), mul(mul(dy, g), s));
  }
}

/**
 * The loss of each target into `losses`. Row i of the logits L[n, V] predicts the targets from
 * starts[i] to starts[i + 1]: several, where sequences share a prefix. With a scale other than 0
 * the logits become the gradients of scale * sum of the losses.
 */
export function crossEntropy(L: usize, starts: usize, targets: usize, losses: usize, n: i32, V: i32, scale: f32): void {
  for (let i = 0; i < n; i++) {
    const l = at(L, i * V), from = int(starts, i), to = int(starts, i + 1);
    let top4 = v128.load(l);
    for (let j = LANES; j < V; j += LANES) top4 = f32x4.max(top4, v128.load(at(l, j)));
    const top = max(max(f32x4.extract_lane(top4, 0), f32x4.extract_lane(top4, 1)),
                    max(f32x4.extract_lane(top4, 2), f32x4.extract_lane(top4, 3)));
    for (let k = from; k < to; k++) set(losses, k, top - get(l, int(targets, k)));
    let sum = f32x4.splat(0);
    const shift = f32x4.splat(top);
    for (let j = 0; j < V; j += LANES) {
      const e = exp4(f32x4.sub(v128.load(at(l, j)), shift));
      v128.store(at(l, j), e); sum = add4(sum, e);
    }
    const total = sum4(sum), log = <f32>Math.log(total);
    for (let k = from; k < to; k++) set(losses, k, get(losses, k) + log);
    if (scale == 0) continue;
    const factor = f32x4.splat(scale * <f32>(to - from) / total);
    for (let j = 0; j < V; j += LANES) v128.store(at(l, j), mul(v128.load(at(l, j)), factor));
    for (let k = from; k < to; k++) { const y = int(targets, k); set(l, y, get(l, y) - scale); }
  }
}

/** Index of the largest of n numbers; the first of equal ones. */
export function largest(p: usize, n: i32): i32 {
  let best = 0, top = get(p, 0);
  for (let i = 1; i < n; i++) if (get(p, i) > top) { top = get(p, i); best = i; }
  return best;
}

// ------------------------------------------------------------------------- the optimizer

/** Sum of squares; blocks in 32 bits, their sum in 64. n is a multiple of 4. */
export function squares(p: usize, n: i32): f64 {
  let total: f64 = 0;
  for (let i = 0; i < n; i += 1024) {
    let s = f32x4.splat(0);
    const end = min(i + 1024, n);
    for (let j = i; j < end; j += LANES) { const v = v128.load(at(p, j)); s = madd(v, v, s); }
    total += sum4(s);
  }
  return total;
}

/** Sum of squares of a - b. */
export function squaredDistance(a: usize, b: usize, n: i32): f64 {
  let total: f64 = 0;
  for (let i = 0; i < n; i += 1024) {
    let s = f32x4.splat(0);
    const end = min(i + 1024, n);
    for (let j = i; j < end; j += LANES) { const v = f32x4.sub(v128.load(at(a, j)), v128.load(at(b, j))); s = madd(v, v, s); }
    total += sum4(s);
  }
  return total;
}

/** AdamW as torch's: clip multiplies the gradient, keep is 1 - learning rate * decay, rate is
 *  learning rate / (1 - beta1^step), root the square root of 1 - beta2^step. */
export function adamw(W: usize, G: usize, M: usize, V: usize, n: i32, clip: f32, keep: f32, rate: f32, root: f32): void {
  const c = f32x4.splat(clip), k = f32x4.splat(keep), r = f32x4.splat(rate), s = f32x4.splat(root);
  const b1 = f32x4.splat(0.9), a1 = f32x4.splat(0.1), b2 = f32x4.splat(0.999), a2 = f32x4.splat(0.001), eps = f32x4.splat(1e-8);
  for (let i = 0; i < n; i += LANES) {
    const g = mul(v128.load(at(G, i)), c);
    const m = madd(v128.load(at(M, i)), b1, mul(g, a1)), v = madd(v128.load(at(V, i)), b2, mul(mul(g, g), a2));
    v128.store(at(M, i), m); v128.store(at(V, i), v);
    const step = f32x4.div(mul(r, m), add4(f32x4.div(f32x4.sqrt(v), s), eps));
    v128.store(at(W, i), f32x4.sub(mul(v128.load(at(W, i)), k), step));
  }
}

/** cos in software, the same on every machine. */
export function cosine(x: f64): f64 { return Math.cos(x); }
