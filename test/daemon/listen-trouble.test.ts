import { expect, test } from "vitest";
import { socketTrouble } from "../../src/daemon/listen-trouble.ts";

const PATH = "/run/gpu/gpuo.sock";

test("a unix socket that cannot be made is told with its path and what to do, and what has no words stays as it is", () => {
  const tries: [string, RegExp][] = [
    ["EACCES", /may not make it there: set server\.socket to a path in a folder of the daemon's own/],
    ["EROFS", /read-only for the daemon: set server\.socket/],
    ["EADDRINUSE", /another process listens there, or it is something else than a socket/],
  ];
  for (const [code, words] of tries) {
    const given = Object.assign(new Error(code), { code });
    const error = socketTrouble(given, PATH) as Error;
    expect(error.message).toContain(`server.socket ${PATH}: `);
    expect(error.message).toMatch(words);
    expect(error.cause).toBe(given);
  }
  const other = new Error("perl");
  expect(socketTrouble(other, PATH)).toBe(other);
});
