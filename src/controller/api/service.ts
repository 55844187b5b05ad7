/** What tells how the controller itself is. Open to all, as probes need it. */
import { json } from "../../http/exchange/answers.ts";
import { docsEndpoints } from "../../http/exchange/docs-page.ts";
import { type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { EXCHANGE_PROBLEMS } from "../../http/exchange/problems.ts";
import { addressOf } from "../store/address.ts";
import { metrics } from "./metrics.ts";
import { healthView } from "./nodes.ts";
import { type ApiParts, CONTROLLER_REFUSALS } from "./parts.ts";

export function serviceEndpoints(parts: ApiParts, isDraining: () => boolean): readonly Endpoint[] {
  const open = { role: "read", body: "ignored" } as const;
  const isHost = parts.settings.backend === "host";
  const unready = () =>
    isDraining() ? "the controller is shutting down" : (parts.loop.trouble ?? (isHost ? parts.database.unread : null));
  return [
    endpoint("/health", "probe", { GET: { ...open, answer: () => json(200, ownHealth(parts)) } }),
    endpoint("/healthz", "probe", { GET: { ...open, answer: () => json(200, { status: "ok" }) } }),
    endpoint("/readyz", "probe", {
      GET: {
        ...open,
        answer() {
          const reason = unready();
          return reason === null ? json(200, { ready: true }) : json(503, { ready: false, reason });
        },
      },
    }),
    endpoint("/metrics", "open", { GET: { ...open, answer: () => metrics(parts) } }),
    endpoint("/openapi.json", "open", {
      GET: {
        ...open,
        answer: async () => json(200, (await import("./openapi.ts")).openApiDocument(parts)),
      },
    }),
    ...docsEndpoints({ ...EXCHANGE_PROBLEMS, ...CONTROLLER_REFUSALS.kinds }),
    endpoint("/admin/v1/config", "key", {
      GET: { role: "admin", body: "ignored", answer: () => json(200, configView(parts)) },
    }),
  ];
}

/** With what the second seed's own probe looks for. */
function ownHealth(parts: ApiParts) {
  const { database, loop, backend } = parts;
  const connected = (trouble: string | null) => (trouble === null ? "connected" : "disconnected");
  return {
    ...healthView(parts),
    service: "orchestration-service",
    database: connected(database.trouble),
    [backend.kind]: connected(loop.trouble),
  };
}

function configView({ settings }: ApiParts) {
  const { backend, simulate, api, auth, postgres, namespace, inert } = settings;
  const database = postgres === null ? settings.database : addressOf(postgres);
  return {
    backend,
    simulate,
    api,
    auth: { enabled: auth.enabled, keys: auth.keys.length },
    database,
    namespace,
    inert,
  };
}
