/**
 * Who may make which call: every call of the API's document, by every kind of key. A call that this table does not know
 * fails, so that nobody adds one without saying whom it is for.
 */
import { expect, test } from "vitest";
import { apiKey, startDaemon } from "../daemon.ts";

const LEAST: Readonly<Record<string, "open" | "read" | "allocate" | "admin">> = {
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
};

const KINDS = ["none", "wrong", "expired", "read", "allocate", "run", "admin"] as const;
type Kind = (typeof KINDS)[number];

/** Whom a call lets through. */
const LET_THROUGH: Readonly<Record<(typeof LEAST)[string], readonly Kind[]>> = {
  open: KINDS,
  read: ["read", "allocate", "run", "admin"],
  allocate: ["allocate", "run", "admin"],
  admin: ["admin"],
};

test("every call of the document is for those whom the table names, and refuses all others, whatever it is about", async () => {
  const keys = [
    ...(["read", "allocate", "run", "admin"] as const).map((role) => apiKey(`key-${role}`, role, role)),
    { ...apiKey("key-expired", "root", "admin"), expiresAt: 1 },
  ];
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => keys,
    metrics: {
      render: async () => ({ contentType: "text/plain", body: "" }),
      observeRequest: () => undefined,
      limitReached: () => undefined,
    },
  });
  const { json: document } = await daemon.call("GET", "/openapi.json");
  const calls = Object.entries(document.paths as Record<string, object>).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(calls.toSorted()).toEqual(Object.keys(LEAST).toSorted());

  const breaches: string[] = [];
  for (const call of calls) {
    const [method = "", template = ""] = call.split(" ");
    const least = LEAST[call] as (typeof LEAST)[string];
    for (const kind of KINDS) {
      const path = template.replace("{id}", "nothing-by-this-name");
      const headers: Record<string, string> = kind === "none" ? {} : { "x-api-key": `key-${kind}` };
      // A HEAD goes the way of a GET, and does not go on where that is a stream.
      const asked = method === "GET" ? "HEAD" : method;
      const body = method === "POST" ? { body: {} } : {};
      const { status, json } = await daemon.connect()(asked, path, { headers, ...body });
      const isKeyless = kind === "none" || kind === "wrong" || kind === "expired";
      const expected = LET_THROUGH[least].includes(kind) ? null : isKeyless ? 401 : 403;
      const isRefused = status === 401 || status === 403;
      if (expected === null ? isRefused : status !== expected) breaches.push(`${call} with ${kind}: ${status}`);
      if (expected === 403 && json !== undefined) expect(json.code, call).toBe("role-too-low");
    }
  }
  expect(breaches).toEqual([]);
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});
