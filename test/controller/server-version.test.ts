/** What is told of a server that is older than what the controller is made for. */
import { expect, test } from "vitest";
import { type KubeConnection, KubeError } from "../../src/controller/kubernetes/connection.ts";
import { takesCel, tellOfOldServer } from "../../src/controller/kubernetes/server-version.ts";

/** @param answers are those of `/version`, in turn. */
async function toldOf(answers: readonly unknown[], stop = new AbortController()) {
  const left = [...answers];
  const told: object[] = [];
  const call = async (path: string) => {
    expect(path).toBe("/version");
    const answer = left.shift();
    if (left.length === 0 && answer instanceof TypeError) stop.abort();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const log = { warn: (facts: object) => told.push(facts) };
  await tellOfOldServer({ call } as unknown as KubeConnection, log as never, stop.signal);
  return told;
}

test.each([
  [{ major: "1", minor: "20+", gitVersion: "v1.20.2-x" }, [{ version: "v1.20.2-x" }]],
  [{ major: "1", minor: "24", gitVersion: "v1.24.0" }, [{ version: "v1.24.0" }]],
  [{ major: "1", minor: "25", gitVersion: "v1.25.0" }, []],
  [{ major: "1", minor: "36", gitVersion: "v1.36.3" }, []],
  [{ major: "2", minor: "0", gitVersion: "v2.0.0" }, []],
  [{}, []],
])("a server of version %j is told of once, where it is older than 1.25", async (version, told) => {
  expect(await toldOf([version])).toEqual(told);
});

test("a server that does not say its version is not told of, and one that is away holds up no end", async () => {
  expect(await toldOf([new KubeError(403, { message: "no" }, null)])).toEqual([]);
  expect(await toldOf([new TypeError("away")])).toEqual([]);
});

test("CRDs have rules in CEL for servers from 1.25 on; one that says no version leaves it open", async () => {
  const answering = (answer: unknown) => ({ call: async () => answer }) as Pick<KubeConnection, "call">;
  expect(await takesCel(answering({ major: "1", minor: "24+" }))).toBe(false);
  expect(await takesCel(answering({ major: "1", minor: "25" }))).toBe(true);
  const refusing = { call: () => Promise.reject(new KubeError(403, { message: "no" }, null)) };
  await expect(takesCel(refusing)).rejects.toThrow("no");
});
