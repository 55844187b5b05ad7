/** The OpenAPI document, made of the schemas that validate. Loaded only when somebody asks for it. */
import type { z } from "zod";
import { createDocument, type ZodOpenApiObject, type ZodOpenApiPathsObject } from "zod-openapi";
import * as allocations from "../allocations/docs.ts";
import { audit } from "../audit/docs.ts";
import * as deliveries from "../deliveries/docs.ts";
import { taskWebhook, webhooks } from "../deliveries/webhooks.ts";
import * as events from "../events/docs.ts";
import { type LinkSource, linked } from "../exchange/links.ts";
import * as gpus from "../gpus/docs.ts";
import { history } from "../history/docs.ts";
import * as host from "../host/docs.ts";
import * as keys from "../keys/docs.ts";
import * as learned from "../learned/docs.ts";
import * as planning from "../planning/docs.ts";
import { quotas } from "../quotas/docs.ts";
import * as readings from "../readings/docs.ts";
import * as reservations from "../reservations/docs.ts";
import { usage } from "../usage/docs.ts";
import { windows } from "../windows/docs.ts";
import * as service from "./docs.ts";
import { LINKS } from "./links.ts";
import { TAGS, tagged, WORK_TAG } from "./tags.ts";

/** Calls that another room makes, and what it tells. */
export interface MoreCalls {
  readonly paths: ZodOpenApiPathsObject;
  readonly taskWebhook: z.ZodObject;
  readonly links: readonly LinkSource[];
}

interface Given {
  readonly version: string;
  /** The header that carries a key; `null`: no key is asked for, and the document asks for none. */
  readonly headerName: string | null;
  /** Left out: this daemon has none of running work. */
  readonly work?: MoreCalls;
}

export function openApiDocument({ version, headerName, work }: Given) {
  return createDocument({
    openapi: "3.1.0",
    info: {
      title: "gpu-orchestrator",
      version,
      description: "Leases the GPUs of one host. Memory is in MiB, called MB; times are RFC 3339 in UTC.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    ...(headerName === null ? {} : withKeys(headerName)),
    tags: [...TAGS, ...(work === undefined ? [] : [WORK_TAG])],
    paths: tagged(linked({ ...PATHS, ...work?.paths }, [...LINKS, ...(work?.links ?? [])])),
    webhooks: { ...webhooks, ...(work === undefined ? {} : { task_ended: taskWebhook(work.taskWebhook) }) },
  });
}

function withKeys(headerName: string): Pick<ZodOpenApiObject, "security" | "components"> {
  return {
    security: [{ apiKey: [] }, { bearer: [] }, {}],
    components: {
      securitySchemes: {
        apiKey: { type: "apiKey", in: "header", name: headerName },
        bearer: { type: "http", scheme: "bearer" },
      },
    },
  };
}

/** In the order in which the page shows them under each heading. */
const PATHS: ZodOpenApiPathsObject = {
  "/gpu/allocate": { post: allocations.allocate },
  "/gpu/release": { post: allocations.release },
  "/gpu/status": { get: host.status },
  "/gpu/list": { get: host.list },
  "/gpu/windows": { get: windows },
  "/gpu/reservations": { get: reservations.list, post: reservations.create },
  "/gpu/reservations/{id}": { delete: reservations.cancel },
  "/gpu/workload": { post: planning.workload },
  "/gpu/plan": { post: planning.plan },
  "/gpu/quotas": { get: quotas },
  "/gpu/usage": { get: usage },
  "/gpu/allocations": { get: allocations.list },
  "/gpu/allocations/{id}": { get: allocations.read, delete: allocations.end },
  "/gpu/allocations/{id}/why": { get: allocations.why },
  "/gpu/allocations/{id}/nudge": { post: allocations.nudge },
  "/gpu/allocations/{id}/revoke": { post: allocations.revoke },
  "/gpu/webhooks/deliveries": { get: deliveries.list },
  "/gpu/webhooks/test": { post: deliveries.test },
  "/gpu/webhooks/deliveries/{id}/redeliver": { post: deliveries.redeliver },
  "/gpu/audit": { get: audit },
  "/gpu/keys": { get: keys.list, post: keys.create },
  "/gpu/keys/{id}": { delete: keys.revoke },
  "/gpu/learned": { get: learned.list, delete: learned.forget },
  "/gpu/gpus/{id}/why": { get: gpus.why },
  "/gpu/gpus/{id}": { delete: gpus.remove },
  "/gpu/gpus/{id}/cordon": { post: gpus.cordon },
  "/gpu/gpus/{id}/uncordon": { post: gpus.uncordon },
  "/gpu/gpus/{id}/adopt": { post: allocations.adopt },
  "/gpu/gpus/{id}/drain": { post: gpus.drain },
  "/gpu/drain": { post: host.drain },
  "/gpu/undrain": { post: host.undrain },
  "/gpu/gpus/{id}/clear-quarantine": { post: gpus.clearQuarantine },
  "/gpu/allocations/{id}/renew": { post: allocations.renew },
  "/gpu/allocations/{id}/extend": { post: allocations.extend },
  "/gpu/events": { get: events.stream },
  "/gpu/readings": { get: readings.stream },
  "/gpu/history": { get: history },
  "/gpu/me": { get: service.me },
  "/healthz": { get: service.healthz },
  "/livez": { get: service.livez },
  "/readyz": { get: service.readyz },
  "/metrics": { get: service.metrics },
  "/openapi.json": { get: service.openapi },
  "/docs": { get: service.docs },
  "/": { get: service.root },
};
