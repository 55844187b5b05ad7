/** `server.listeners`: further ports, with the same calls. */
import { nearest } from "../core/base/suggest.ts";
import { oneOf, port, type Read, Refusal, show } from "./settings.ts";

/** What `GET /metrics` answers whoever prefers nothing: Prometheus' text, or the LLM Orchestrator's JSON. */
export const METRICS_FORMS = ["prometheus", "json"] as const;

export interface Listener {
  readonly port: number;
  readonly metrics: (typeof METRICS_FORMS)[number];
}

const KEYS = ["port", "metrics"];

export const listener: Read<Listener> = (value) => {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return new Refusal(`expected {port: 8080, metrics: json}, got ${show(value)}`);
  const given = value as { readonly [key: string]: unknown };
  const unknown = Object.keys(given).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) return new Refusal("unknown key", nearest(unknown, KEYS), [unknown]);
  const at = port(given.port);
  if (at instanceof Refusal) return new Refusal(at.message, at.hint, ["port"]);
  const metrics = oneOf(METRICS_FORMS)(given.metrics ?? "prometheus");
  if (metrics instanceof Refusal) return new Refusal(metrics.message, metrics.hint, ["metrics"]);
  return { port: at, metrics };
};
