/** The model registry is not built: its paths say so, instead of being unknown. */
import { type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { ControllerError } from "../objects/errors.ts";

export function registryEndpoints(): readonly Endpoint[] {
  const answer = (): never => {
    throw new ControllerError(
      "not-built",
      "this version has no model registry; an LLMModel with source.type hub names a model of the hub",
    );
  };
  const to = { role: "read", body: "ignored", takesQuery: true, answer } as const;
  const verbs = { GET: to, POST: to, PUT: to, DELETE: to };
  return [endpoint("/registry/v1/models", "key", verbs), endpoint("/registry/v1/models/*rest", "key", verbs)];
}
