/**
 * A client as there are many: it asks for GPUs, prints the answer as one line of JSON, and lives on. What it holds it
 * renews, what it waits for it polls. Takes the daemon's URL, the body of its request, and the time between renewals
 * in ms.
 */
import { setTimeout as sleep } from "node:timers/promises";

const [url = "", body = "", everyMs = ""] = process.argv.slice(2);

async function call(method: string, path: string, content?: string) {
  const headers: Record<string, string> = content === undefined ? {} : { "content-type": "application/json" };
  const answer = await fetch(url + path, { method, headers, body: content ?? null });
  return (await answer.json()) as { id: string; status: string };
}

const { id, status, ...rest } = await call("POST", "/gpu/allocate", body);
console.log(JSON.stringify({ id, status, ...rest }));
for (;;) {
  if (status === "allocated") await call("POST", `/gpu/allocations/${id}/renew`);
  else await call("GET", `/gpu/allocations/${id}?wait=${everyMs}ms`);
  await sleep(Number(everyMs));
}
