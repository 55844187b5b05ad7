/** Server-sent events (WHATWG HTML, section 9.2), as far as the daemon writes them. */

export interface Message {
  readonly id: string | null;
  readonly event: string;
  readonly data: string;
}

/** Nothing the daemon sends comes near: who sends more is no daemon. */
const MAX_LINE_LENGTH = 1 << 20;

/** The messages of a stream. One without data is told too, since its id says where the reader stands. */
export async function* messagesOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Message> {
  const decoder = new TextDecoder();
  let rest = "";
  let message = { id: null as string | null, event: "message", data: "" };
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split(/\r\n|\n/);
    rest = lines.pop() ?? "";
    if (rest.length > MAX_LINE_LENGTH) throw new Error("a line of the event stream is too long");
    for (const line of lines) {
      if (line === "") {
        if (message.id !== null || message.data !== "") yield message;
        message = { id: null, event: "message", data: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") message.id = value;
      else if (field === "event") message.event = value;
      else if (field === "data") message.data += message.data === "" ? value : `\n${value}`;
    }
  }
}
