/** What the page at /docs starts with, sent as it stands: every call that needs nothing that is not there yet works. */
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon } from "./daemon.ts";

const CONFIG = `
work:
  enabled: true
  allow_unauthenticated: true
  allow_same_user: true
  allow_root: true
  executors: { echo: {type: echo} }
`;
/** They answer as long as somebody reads. */
const STREAMS = ["/gpu/events", "/gpu/readings"];
/** What the settings of a host must have opened first, and the page itself, which browsers are given. */
const OTHERS = { "post /gpu/keys": 409, "get /": 404 };

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly example?: unknown;
  readonly schema?: { readonly example?: unknown; readonly default?: unknown };
}

interface Operation {
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly example?: unknown }>> };
}

test.skipIf(!isBuilt)(
  "every body has an example, and every call that needs no id is answered with the values at its start (needs dist/)",
  async () => {
    const daemon = await startDaemon({ config: CONFIG });
    onTestFinished(async () => {
      await daemon.call("DELETE", "/workloads/my-llm-workload");
      await daemon.end();
      daemon.removeFolder();
    });
    await eventually(
      () => daemon.call("GET", "/workers"),
      ({ body }) => body.length === 1,
      60_000,
    );
    const { body: document } = await daemon.call("GET", "/openapi.json");
    const answers: Record<string, number> = {};
    for (const [path, methods] of Object.entries<Record<string, Operation>>(document.paths)) {
      for (const [method, { parameters = [], requestBody }] of Object.entries(methods)) {
        const [type, { example } = {}] = Object.entries(requestBody?.content ?? {})[0] ?? [];
        if (type !== undefined) expect(example, `${method} ${path}`).toBeDefined();
        if (path.includes("{") || STREAMS.includes(path)) continue;
        const filled = parameters.flatMap(({ name, in: where, example, schema }): [string, string][] => {
          const value = example ?? schema?.example ?? schema?.default;
          return value === undefined || where !== "query" ? [] : [[name, String(value)]];
        });
        const query = filled.length === 0 ? "" : `?${new URLSearchParams(filled)}`;
        const reply = await daemon.call(method.toUpperCase(), path + query, example);
        answers[`${method} ${path}`] = reply.status;
      }
    }
    expect(Object.keys(answers).length).toBeGreaterThan(35);
    const wrong = Object.entries(answers).filter(([call, status]) => {
      const other = OTHERS[call as keyof typeof OTHERS];
      return other === undefined ? status < 200 || status > 202 : status !== other;
    });
    expect(wrong).toEqual([]);
  },
  120_000,
);
