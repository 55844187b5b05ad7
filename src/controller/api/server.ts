/** The controller's HTTP server. */

import type { Endpoint } from "../../http/exchange/endpoint.ts";
import { NO_LIMITS } from "../../http/exchange/limits.ts";
import { createServer, type HttpServer, type ServerParts } from "../../http/exchange/server.ts";
import type { Certificate, Log } from "../../http/exchange/serving.ts";
import { ControllerError } from "../objects/errors.ts";
import { deploymentEndpoints } from "./deployments.ts";
import { nodeEndpoints } from "./nodes.ts";
import { objectEndpoints } from "./objects.ts";
import { type ApiParts, CONTROLLER_REFUSALS, withSeedNames } from "./parts.ts";
import { registryEndpoints } from "./registry.ts";
import { rolloutEndpoints } from "./rollouts.ts";
import { serviceEndpoints } from "./service.ts";

const READ_MS = 15_000;
const WRITE_MS = 15_000;
const IDLE_MS = 60_000;
const DRAIN_MS = 8_000;
const MAX_CONNECTIONS = 1_024;

export function apiEndpoints(parts: ApiParts, isDraining: () => boolean): readonly Endpoint[] {
  return [
    ...serviceEndpoints(parts, isDraining),
    // Before those that take an id: `status` and the events of a deployment are no ids.
    ...nodeEndpoints(parts),
    ...rolloutEndpoints(parts),
    ...registryEndpoints(),
    ...deploymentEndpoints(parts),
    ...objectEndpoints(parts),
  ];
}

export function createApiServer(parts: ApiParts, log: Log): HttpServer {
  return serverOf(parts, log, parts.settings.certificate, (isDraining) => apiEndpoints(parts, isDraining));
}

/** For probes and scrapes only: what takes a key is not there. */
export function createOpenServer(parts: ApiParts, log: Log): HttpServer {
  return serverOf(parts, log, null, (isDraining) =>
    serviceEndpoints(parts, isDraining).filter(({ access }) => access !== "key"),
  );
}

function serverOf(
  parts: ApiParts,
  log: Log,
  certificate: Certificate | null,
  endpointsFor: ServerParts["endpoints"],
): HttpServer {
  const { auth } = parts.settings;
  let isDraining = () => false;
  const endpoints = endpointsFor(() => isDraining());
  const { audit } = parts;
  return createServer({
    settings: {
      auth: { enabled: auth.enabled, headerName: auth.headerName },
      certificate,
      allowedHosts: [],
      allowedOrigins: [],
      trustedProxies: [],
      readTimeoutMs: READ_MS,
      writeTimeoutMs: WRITE_MS,
      idleTimeoutMs: IDLE_MS,
      drainTimeoutMs: DRAIN_MS,
      maxConnections: MAX_CONNECTIONS,
      maxStreams: 0,
      streamStallMs: WRITE_MS,
    },
    version: parts.version,
    keys: () => auth.keys,
    limits: () => NO_LIMITS,
    metrics: null,
    audit:
      audit === undefined
        ? null
        : {
            keep: async (entries) => entries.forEach(audit),
            now: parts.now,
            others: endpoints,
          },
    endpoints(draining) {
      isDraining = draining;
      return endpoints;
    },
    refusals: CONTROLLER_REFUSALS,
    shuttingDown: () => new ControllerError("shutting-down", "the controller is shutting down"),
    problemAs: withSeedNames,
    log,
  });
}
