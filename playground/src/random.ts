// The generators of Python and torch, so that a seed here gives the run that it gives in ftkit.

/** MT19937, the generator of both. */
export class MersenneTwister {
  private state = new Uint32Array(624);
  private index = 624;

  /** Seeded as C++'s std::mt19937, which torch uses. */
  static torch(seed: number): MersenneTwister {
    const made = new MersenneTwister();
    made.start(seed);
    return made;
  }

  /** Seeded as Python's random.Random(text or whole number). */
  static python(seed: string | number): MersenneTwister {
    const made = new MersenneTwister();
    let value: bigint;
    if (typeof seed === "string") {
      const text = new TextEncoder().encode(seed), hash = sha512(text);
      value = [...text, ...hash].reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    } else value = BigInt(seed);
    const key: number[] = [];
    for (; value > 0n; value >>= 32n) key.push(Number(value & 0xffffffffn));
    made.startByArray(key.length ? key : [0]);
    return made;
  }

  private start(seed: number) {
    const s = this.state;
    s[0] = seed >>> 0;
    for (let i = 1; i < 624; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
    this.index = 624;
  }

  private startByArray(key: number[]) {
    const s = this.state;
    this.start(19650218);
    let i = 1, j = 0;
    for (let k = Math.max(624, key.length); k; k--) {
      s[i] = (s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), 1664525)) + key[j] + j;
      i++; j++;
      if (i >= 624) { s[0] = s[623]; i = 1; }
      if (j >= key.length) j = 0;
    }
    for (let k = 623; k; k--) {
      s[i] = (s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), 1566083941)) - i;
      if (++i >= 624) { s[0] = s[623]; i = 1; }
    }
    s[0] = 0x80000000;
  }

  /** The next 32 bits. */
  next(): number {
    const s = this.state;
    if (this.index >= 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.index = 0;
    }
    let y = s[this.index++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** Python's random(): 53 bits, from 0 to below 1. */
  random(): number {
    const high = this.next() >>> 5, low = this.next() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Python's randrange(n). */
  below(n: number): number {
    const bits = 32 - Math.clz32(n);
    let drawn = this.next() >>> (32 - bits);
    while (drawn >= n) drawn = this.next() >>> (32 - bits);
    return drawn;
  }

  /** Python's shuffle, in place. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }

  /** Python's sample(range(n), k). */
  sample(n: number, k: number): number[] {
    let setSize = 21;
    if (k > 5) { let power = 1; while (power < k * 3) power *= 4; setSize += power; }
    if (n <= setSize) {
      const pool = Array.from({ length: n }, (_, i) => i);
      return Array.from({ length: k }, (_, i) => {
        const j = this.below(n - i), taken = pool[j];
        pool[j] = pool[n - i - 1];
        return taken;
      });
    }
    const seen = new Set<number>();
    while (seen.size < k) seen.add(this.below(n));
    return [...seen];
  }

  /** Python's choices(range(n), k=k). */
  choices(n: number, k: number): number[] {
    return Array.from({ length: k }, () => Math.floor(this.random() * n));
  }

  /** torch's uniform_ in float32 from -limit to limit. */
  uniform(count: number, limit: number): Float32Array {
    const out = new Float32Array(count), f = Math.fround, from = f(-limit), width = f(f(limit) - from);
    for (let i = 0; i < count; i++) {
      const x = (this.next() & 0xffffff) / 16777216;
      out[i] = f(f(x * width) + from);
    }
    return out;
  }

  skip(count: number) { for (let i = 0; i < count; i++) this.next(); }
}

/** Endless batches of indices below n, as ftkit's `loop.shuffled`: every batch full. */
export function* batches(n: number, size: number, seed: number): Generator<number[]> {
  let line: number[] = [];
  for (let epoch = 0; ;) {
    while (line.length < size) {
      const order = Array.from({ length: n }, (_, i) => i);
      line.push(...MersenneTwister.python(`${seed}/${epoch++}`).shuffle(order));
    }
    yield line.slice(0, size);
    line = line.slice(size);
  }
}

// ------------------------------------------------------------------------- SHA-512 (FIPS 180-4)

const MASK = (1n << 64n) - 1n;

function primes(count: number): bigint[] {
  const found: bigint[] = [];
  for (let n = 2n; found.length < count; n++) if (found.every((p) => n % p)) found.push(n);
  return found;
}

/** First 64 bits of the fraction of the root of a prime. */
function rootBits(prime: bigint, degree: bigint): bigint {
  const value = prime << (64n * degree);
  let low = 0n, high = 1n << 70n;
  while (high - low > 1n) {
    const middle = (low + high) / 2n;
    if (middle ** degree <= value) low = middle; else high = middle;
  }
  return low & MASK;
}

let constants: { k: bigint[]; h: bigint[] } | undefined;

function sha512(message: Uint8Array): Uint8Array {
  constants ??= { k: primes(80).map((p) => rootBits(p, 3n)), h: primes(8).map((p) => rootBits(p, 2n)) };
  const turn = (x: bigint, n: bigint) => ((x >> n) | (x << (64n - n))) & MASK;
  const length = Math.ceil((message.length + 17) / 128) * 128, data = new Uint8Array(length);
  data.set(message);
  data[message.length] = 0x80;
  const view = new DataView(data.buffer);
  view.setBigUint64(length - 8, BigInt(message.length * 8));
  const hash = [...constants.h];
  for (let block = 0; block < length; block += 128) {
    const w = Array.from({ length: 16 }, (_, i) => view.getBigUint64(block + i * 8));
    for (let i = 16; i < 80; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = turn(x, 1n) ^ turn(x, 8n) ^ (x >> 7n), s1 = turn(y, 19n) ^ turn(y, 61n) ^ (y >> 6n);
      w.push((w[i - 16] + s0 + w[i - 7] + s1) & MASK);
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 80; i++) {
      const s1 = turn(e, 14n) ^ turn(e, 18n) ^ turn(e, 41n), choice = (e & f) ^ (~e & MASK & g);
      const first = (h + s1 + choice + constants.k[i] + w[i]) & MASK;
      const s0 = turn(a, 28n) ^ turn(a, 34n) ^ turn(a, 39n), most = (a & b) ^ (a & c) ^ (b & c);
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) & MASK, c, b, a, (first + s0 + most) & MASK];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => { hash[i] = (hash[i] + x) & MASK; });
  }
  const out = new DataView(new ArrayBuffer(64));
  hash.forEach((x, i) => out.setBigUint64(i * 8, x));
  return new Uint8Array(out.buffer);
}
