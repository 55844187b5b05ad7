import { describe, expect, test } from "vitest";
import { opened, signed } from "../../src/broker/messages.ts";

const SECRET = Buffer.from("a-secret-of-more-than-16-bytes");
const commandsTo = (node: string) => `gpuo:cmd:${node}`;

describe("a message", () => {
  const message = { id: "1-1", type: "stop", node: "a", assignment: "run-1", epoch: 7, body: { why: "x" } } as const;

  test("is taken as it was sent, from the stream that it was sent to", () => {
    const fields = signed(message, commandsTo("a"), SECRET);
    expect(opened(fields, commandsTo("a"), SECRET)).toEqual(message);
    expect(opened(fields, commandsTo("b"), SECRET)).toBeNull();
    expect(opened(fields, commandsTo("a"), Buffer.from("another secret"))).toBeNull();
  });

  test("of which one field was changed, left out or added, is nobody's", () => {
    const fields = signed(message, commandsTo("a"), SECRET);
    for (let i = 1; i < fields.length; i += 2) {
      const changed = fields.with(i, `${fields[i]}0`);
      expect(opened(changed, commandsTo("a"), SECRET), String(fields[i - 1])).toBeNull();
    }
    expect(opened(fields.slice(2), commandsTo("a"), SECRET)).toBeNull();
    expect(opened([...fields, "more", "x"], commandsTo("a"), SECRET)).toBeNull();
    // Letters that go from one field to the next are not the same text.
    const node = fields.indexOf("node") + 1;
    const shifted = fields.with(node, "ar").with(node + 2, "un-1");
    expect(opened(shifted, commandsTo("a"), SECRET)).toBeNull();
  });
});
