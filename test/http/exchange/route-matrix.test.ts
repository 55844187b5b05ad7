/**
 * Who may make which call: every call of the API's document and of running work, by every kind of key. A call that this
 * table does not know fails, so that nobody adds one without saying whom it is for.
 */
import { expect, test } from "vitest";
import { ManualClock } from "../../../src/platform/clock.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";
import { idleWork, NO_METRICS } from "../idle-work.ts";

type Least = "open" | "read" | "allocate" | "run" | "admin";

const LEAST: Readonly<Record<string, Least>> = {
  "POST /gpu/allocate": "allocate",
  "POST /gpu/release": "allocate",
  "GET /gpu/status": "read",
  "GET /gpu/list": "read",
  "GET /gpu/windows": "read",
  "GET /gpu/reservations": "read",
  "POST /gpu/reservations": "allocate",
  "DELETE /gpu/reservations/{id}": "allocate",
  "POST /gpu/workload": "read",
  "POST /gpu/plan": "read",
  "GET /gpu/quotas": "read",
  "GET /gpu/usage": "read",
  "GET /gpu/allocations": "read",
  "GET /gpu/allocations/{id}": "read",
  "DELETE /gpu/allocations/{id}": "allocate",
  "GET /gpu/allocations/{id}/why": "read",
  "POST /gpu/allocations/{id}/revoke": "admin",
  "POST /gpu/allocations/{id}/nudge": "allocate",
  "POST /gpu/webhooks/test": "allocate",
  "GET /gpu/webhooks/deliveries": "admin",
  "POST /gpu/webhooks/deliveries/{id}/redeliver": "admin",
  "GET /gpu/audit": "admin",
  "GET /gpu/keys": "admin",
  "POST /gpu/keys": "admin",
  "DELETE /gpu/keys/{id}": "admin",
  "GET /gpu/learned": "admin",
  "DELETE /gpu/learned": "admin",
  "GET /gpu/gpus/{id}/why": "read",
  "DELETE /gpu/gpus/{id}": "admin",
  "POST /gpu/gpus/{id}/cordon": "admin",
  "POST /gpu/gpus/{id}/uncordon": "admin",
  "POST /gpu/gpus/{id}/adopt": "admin",
  "POST /gpu/gpus/{id}/drain": "admin",
  "POST /gpu/drain": "admin",
  "POST /gpu/undrain": "admin",
  "POST /gpu/gpus/{id}/clear-quarantine": "admin",
  "POST /gpu/allocations/{id}/renew": "allocate",
  "POST /gpu/allocations/{id}/extend": "allocate",
  "GET /gpu/events": "read",
  "GET /gpu/readings": "read",
  "GET /gpu/history": "read",
  "GET /gpu/me": "read",
  "GET /healthz": "open",
  "GET /livez": "open",
  "GET /readyz": "open",
  "GET /metrics": "open",
  "GET /openapi.json": "open",
  "GET /docs": "open",
  "GET /": "open",
  // Running work.
  "POST /api/v1/tasks": "run",
  "GET /api/v1/tasks": "read",
  "POST /api/v1/tasks/plan": "run",
  "GET /api/v1/tasks/{id}": "read",
  "DELETE /api/v1/tasks/{id}": "run",
  "GET /api/v1/tasks/{id}/result": "read",
  "GET /api/v1/results/{id}": "read",
  "GET /api/v1/tasks/{id}/files/{rest}": "read",
  "GET /api/v1/tasks/{id}/logs": "read",
  "POST /workloads": "run",
  "GET /workloads": "read",
  "GET /workloads/{id}": "read",
  "PATCH /workloads/{id}": "run",
  "DELETE /workloads/{id}": "run",
  "POST /workloads/{id}/restart": "run",
  "POST /schedule": "run",
  "GET /runs": "read",
  "GET /runs/{id}": "read",
  "GET /runs/{id}/logs": "read",
  "POST /runs/{id}/stop": "run",
  "POST /runs/{id}/adopt": "run",
  "GET /work": "read",
  "GET /workers": "read",
  "GET /workers/{id}": "read",
  "POST /admin/cleanup": "run",
  "GET /health": "open",
  "GET /status": "read",
  // Between nodes: a signature says who asks.
  "GET /cluster/runs/{id}/logs": "open",
  "GET /cluster/runs/{id}/files/{rest}": "open",
};

const KINDS = ["none", "wrong", "expired", "read", "allocate", "run", "admin"] as const;
type Kind = (typeof KINDS)[number];

/** Whom a call lets through. */
const LET_THROUGH: Readonly<Record<Least, readonly Kind[]>> = {
  open: KINDS,
  read: ["read", "allocate", "run", "admin"],
  allocate: ["allocate", "run", "admin"],
  run: ["run", "admin"],
  admin: ["admin"],
};

/** Everything switched on, and keys of every role, each of a principal of its own. */
async function startKeyed() {
  const keys = [
    ...(["read", "allocate", "run", "admin"] as const).map((role) => apiKey(`key-${role}`, role, role)),
    { ...apiKey("key-expired", "root", "admin"), expiresAt: 1 },
    apiKey("key-owner", "owner"),
  ];
  const work = idleWork(new ManualClock());
  const settings = { auth: { enabled: true, headerName: "X-API-Key" } };
  const daemon = await startDaemon({ settings, keys: () => keys, metrics: NO_METRICS, work });
  const document = new Described((await daemon.call("GET", "/openapi.json")).json);
  const described = document.calls.map(({ method, template }) => `${method} ${template}`);
  const ofWork = work.endpoints.flatMap(({ methods, documented }) =>
    Object.keys(methods).map((method) => `${method} ${documented}`),
  );
  const calls = [...new Set([...described, ...ofWork])];
  const call = (asked: string, key: string | null, { id = "nothing-by-this-name", body = {} } = {}) => {
    const [method = "", template = ""] = asked.split(" ");
    const path = template.replace("{id}", id).replace("{rest}", "nothing");
    const headers: Record<string, string> = key === null ? {} : { "x-api-key": key };
    // A HEAD goes the way of a GET, and does not go on where that is a stream.
    const takesBody = method === "POST" || method === "PATCH";
    return daemon.connect()(method === "GET" ? "HEAD" : method, path, { headers, ...(takesBody ? { body } : {}) });
  };
  return { daemon, calls, call };
}

test("every call is for those whom the table names, and refuses all others, whatever it is about", async () => {
  const { daemon, calls, call } = await startKeyed();
  expect(calls.toSorted()).toEqual(Object.keys(LEAST).toSorted());

  const breaches: string[] = [];
  for (const asked of calls) {
    const least = LEAST[asked] as Least;
    for (const kind of KINDS) {
      const { status, json } = await call(asked, kind === "none" ? null : `key-${kind}`);
      const isKeyless = kind === "none" || kind === "wrong" || kind === "expired";
      const expected = LET_THROUGH[least].includes(kind) ? null : isKeyless ? 401 : 403;
      const isRefused = status === 401 || status === 403;
      if (expected === null ? isRefused : status !== expected) breaches.push(`${asked} with ${kind}: ${status}`);
      if (expected === 403 && json !== undefined) expect(json.code, asked).toBe("role-too-low");
    }
  }
  expect(breaches).toEqual([]);
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});

test("no call with another principal's key touches a lease, whatever its role, but for an admin's", async () => {
  const { daemon, calls, call } = await startKeyed();
  const own = { "x-api-key": "key-owner" };
  const { json: lease } = await daemon.allocate({ ttl: "1h" }, own);
  const before = daemon.scheduler.state.allocations.get(lease.id);
  const changing = calls.filter(
    (asked) => /^(?:POST|PATCH|DELETE) .*allocations|^POST \/gpu\/release/.test(asked) && !asked.endsWith("/nudge"),
  );
  expect(changing.length).toBeGreaterThan(4);
  for (const asked of changing) {
    for (const kind of ["none", "wrong", "expired", "read", "allocate", "run"] as const) {
      const body = asked.endsWith("release") ? { allocation_id: lease.id } : { reason: "mine", max_duration: "2h" };
      const sent = /renew$/.test(asked) ? {} : /extend$/.test(asked) ? { max_duration: "2h" } : body;
      const { status } = await call(asked, kind === "none" ? null : `key-${kind}`, { id: lease.id, body: sent });
      expect([401, 403], `${asked} with ${kind}: ${status}`).toContain(status);
    }
  }
  expect(daemon.scheduler.state.allocations.get(lease.id)).toEqual(before);
  expect(
    (await call("POST /gpu/allocations/{id}/revoke", "key-admin", { id: lease.id, body: { reason: "mine" } })).status,
  ).toBe(200);
});
