/**
 * Leaves out of `nvidia-smi`'s output, as it comes, what nobody reads: the clocks that a card supports, and the list of
 * processes that have ended, which takes 1 MB of each GPU whose accounting buffer is full. So the bound on output counts
 * what is kept.
 *
 *  1. Only what stands in these elements is left out; a bare word in one, such as `Insufficient Size`, stays.
 *  2. Process names come from any local user and are passed over: no tag in one counts.
 *  3. What was left out must not reach into anything else. Where another element begins or ends in it, the rest is kept,
 *     and the document does not match: an error, never a GPU that looks idle.
 */

/** Half of a document and more. */
export const UNREAD = ["supported_clocks", "accounted_processes"] as const;

const NAME_START = "<process_name>";
const NAME_END = "</process_name>";
const START = new RegExp([...UNREAD.map((tag) => `<${tag}>`), NAME_START].join("|"));
/** Elements that never stand in what is left out. */
const ELSEWHERE =
  /<\/?(?:processes|process_info|compute_processes|gpu[ >]|nvidia_smi_log|supported_clocks>|accounted_processes>)/;
/** No tag that is looked for is longer: so much is kept back until more has come. */
const OVERLAP = 32;

export class OutputSieve {
  #rest = "";
  /** What is awaited: the end of a name, the content of an element, or the end of what is left out. */
  #within: { readonly kind: "name" | "opened" | "dropped"; readonly end: string } | null = null;

  /** What is kept of what has come so far. Bytes as Latin-1. */
  push(chunk: string): string {
    this.#rest += chunk;
    const kept: string[] = [];
    let goesOn = true;
    while (goesOn) goesOn = this.#step(kept);
    return kept.join("");
  }

  /** The rest, when nothing more comes. */
  end(): string {
    const rest = this.#within?.kind === "dropped" ? "" : this.#rest;
    this.#rest = "";
    return rest;
  }

  /** Whether more can be done with what has come. */
  #step(kept: string[]): boolean {
    const within = this.#within;
    if (within === null) return this.#copy(kept);
    if (within.kind === "name") return this.#passName(kept);
    return within.kind === "opened" ? this.#enter(kept, within.end) : this.#drop(within.end);
  }

  #copy(kept: string[]): boolean {
    const found = START.exec(this.#rest);
    if (found === null) {
      this.#keep(kept, Math.max(0, this.#rest.length - OVERLAP));
      return false;
    }
    const [start] = found;
    this.#keep(kept, found.index + start.length);
    this.#within = { kind: start === NAME_START ? "name" : "opened", end: `</${start.slice(1)}` };
    return true;
  }

  #passName(kept: string[]): boolean {
    const at = this.#rest.indexOf(NAME_END);
    this.#keep(kept, at < 0 ? Math.max(0, this.#rest.length - OVERLAP) : at + NAME_END.length);
    if (at < 0) return false;
    this.#within = null;
    return true;
  }

  /** Up to the first tag within: when that is the end, there was nothing but a word. */
  #enter(kept: string[], end: string): boolean {
    const at = this.#rest.indexOf("<");
    this.#keep(kept, at < 0 ? this.#rest.length : at);
    if (at < 0 || this.#rest.length < end.length) return false;
    this.#within = this.#rest.startsWith(end) ? null : { kind: "dropped", end };
    return true;
  }

  #drop(end: string): boolean {
    const at = this.#rest.indexOf(end);
    const content = at < 0 ? this.#rest : this.#rest.slice(0, at);
    const other = ELSEWHERE.exec(content);
    if (other !== null) {
      this.#rest = this.#rest.slice(other.index);
      this.#within = null;
      return true;
    }
    this.#rest = this.#rest.slice(at < 0 ? Math.max(0, this.#rest.length - OVERLAP) : at);
    if (at < 0) return false;
    this.#within = null;
    return true;
  }

  #keep(kept: string[], length: number): void {
    if (length === 0) return;
    kept.push(this.#rest.slice(0, length));
    this.#rest = this.#rest.slice(length);
  }
}

/** All of `output` at once, without what nobody reads. Bytes stay bytes. */
export function sifted(output: Uint8Array | string): Uint8Array | string {
  const sieve = new OutputSieve();
  if (typeof output === "string") return sieve.push(output) + sieve.end();
  const bytes = Buffer.from(output.buffer, output.byteOffset, output.byteLength);
  return Buffer.from(sieve.push(bytes.toString("latin1")) + sieve.end(), "latin1");
}
