/** Server-sent events, read from text as it comes (WHATWG HTML, section 9.2.6). */

export interface Message {
  /** `null`: it moves no position. */
  readonly id: number | null;
  readonly event: string;
  readonly data: string;
}

export class MessageReader {
  #rest = "";

  /** @returns the messages that `text` completes. One without data only tells a position: its `event` is empty. */
  read(text: string): Message[] {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop() as string;
    return blocks.flatMap(messageOf);
  }
}

function messageOf(block: string): Message[] {
  let id: number | null = null;
  let event = "";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    if (field === "id" && /^\d+$/.test(value)) id = Number(value);
    else if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
  return id === null && data.length === 0 ? [] : [{ id, event, data: data.join("\n") }];
}
