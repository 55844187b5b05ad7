/** The worker's image: it starts what the daemon's image holds, as a user who may become others. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the worker's image takes the program from the daemon's, starts its worker as root, and has what makes cages", () => {
  const image = read("deploy/worker.Dockerfile").replaceAll(/\\\n\s*/g, "");
  const [, from = "", to = ""] = /^COPY --from=daemon (\/app) (\S+)$/m.exec(image) ?? [];
  expect(read("Dockerfile")).toMatch(new RegExp(`^COPY --from=build \\S+ ${from}/dist$`, "m"));
  const [, node] = /^COPY --from=daemon \S+\/node (\S+)$/m.exec(image) ?? [];
  const [, entry = "[]"] = /^ENTRYPOINT (.*)$/m.exec(image) ?? [];
  expect(JSON.parse(entry)).toEqual([node, `${to}/dist/gpu-orchestrator.js`, "worker"]);
  expect(image).toMatch(/^USER root$/m);
  expect(image).toMatch(/install .*util-linux/);
});
