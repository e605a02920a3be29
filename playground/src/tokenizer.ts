// The byte-level BPE of the embedded model, equal to the tokenizers library on its tokenizer.json.

export const PAD = 0, BOS = 1, EOS = 2;
const SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>"];
// Every digit is a word of its own; the rest is split as in GPT-2.
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The printable character that stands for each byte. */
function byteCharacters(): string[] {
  const shown = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(shown(b) ? b : next++));
}

export class Tokenizer {
  private ids = new Map<string, number>();
  private rank = new Map<string, number>();
  private bytes = byteCharacters();
  private byteOf = new Map(this.bytes.map((c, b) => [c, b]));
  private seen = new Map<string, number[]>();

  /** vocabulary: token of each id; merges: "left right", the most important first. */
  constructor(private vocabulary: string[], merges: string[]) {
    vocabulary.forEach((token, id) => this.ids.set(token, id));
    merges.forEach((pair, i) => this.rank.set(pair, i));
  }

  encode(text: string): number[] {
    const out: number[] = [];
    for (const part of text.split(/(<\|(?:pad|bos|eos)\|>)/)) {
      const special = SPECIAL.indexOf(part);
      if (special >= 0) out.push(special);
      else for (const piece of part.split(/(\p{N})/u)) {
        if (piece) for (const word of piece.match(WORDS) ?? []) out.push(...this.word(word));
      }
    }
    return out;
  }

  private word(word: string): number[] {
    const known = this.seen.get(word);
    if (known) return known;
    let parts = [...new TextEncoder().encode(word)].map((b) => this.bytes[b]);
    while (parts.length > 1) {
      let best = Infinity;
      for (let i = 1; i < parts.length; i++) {
        best = Math.min(best, this.rank.get(`${parts[i - 1]} ${parts[i]}`) ?? Infinity);
      }
      if (best === Infinity) break;
      const joined: string[] = [];
      for (let i = 0; i < parts.length; i++) {
        if (i + 1 < parts.length && this.rank.get(`${parts[i]} ${parts[i + 1]}`) === best) {
          joined.push(parts[i] + parts[++i]);
        } else joined.push(parts[i]);
      }
      parts = joined;
    }
    const ids = parts.map((part) => this.ids.get(part)!);
    if (this.seen.size > 50000) this.seen.clear();
    this.seen.set(word, ids);
    return ids;
  }

  /** The text of some ids. Special tokens are left out. */
  decode(ids: ArrayLike<number>): string {
    const bytes: number[] = [];
    for (const id of Array.from(ids)) {
      if (id >= SPECIAL.length) for (const c of this.vocabulary[id]) bytes.push(this.byteOf.get(c)!);
    }
    return new TextDecoder().decode(new Uint8Array(bytes));
  }

  /** Each token as it is shown, special tokens too. A character of several tokens is in the last of them. */
  pieces(ids: number[]): string[] {
    const decoder = new TextDecoder();
    return ids.map((id) => id < SPECIAL.length ? SPECIAL[id].replace(/[<|>]/g, "")
      : decoder.decode(new Uint8Array([...this.vocabulary[id]].map((c) => this.byteOf.get(c)!)), { stream: true }));
  }
}
