/**
 * The commands that wait for a turn. Each principal's stand in a line of their own, and a turn takes one of each line in
 * turn: a flood of one delays another's command by one command. What the daemon itself sends (readings, deadlines, what
 * came of webhooks) goes first.
 */
export class Mailbox<T> {
  readonly #own: T[] = [];
  /** The line that is next in turn stands first. */
  readonly #lines = new Map<string, T[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @param sender a principal; `null`: the daemon itself. */
  put(sender: string | null, item: T): void {
    this.#size++;
    if (sender === null) {
      this.#own.push(item);
      return;
    }
    const line = this.#lines.get(sender);
    if (line === undefined) this.#lines.set(sender, [item]);
    else line.push(item);
  }

  /** As many as there are, up to `most`. */
  take(most: number): T[] {
    const taken = this.#own.splice(0, most);
    if (this.#lines.size === 1) {
      for (const [sender, line] of this.#lines) {
        taken.push(...line.splice(0, most - taken.length));
        if (line.length === 0) this.#lines.delete(sender);
      }
    }
    const places = new Map<string, number>();
    while (this.#lines.size > 0 && taken.length < most) {
      const [sender, line] = this.#lines.entries().next().value as [string, T[]];
      const place = places.get(sender) ?? 0;
      taken.push(line[place] as T);
      places.set(sender, place + 1);
      this.#lines.delete(sender);
      // Behind the others: its next one is taken when each of them had one.
      if (place + 1 < line.length) this.#lines.set(sender, line);
    }
    for (const [sender, place] of places) this.#lines.get(sender)?.splice(0, place);
    this.#size -= taken.length;
    return taken;
  }
}
