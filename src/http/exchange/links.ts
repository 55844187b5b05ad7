/**
 * `links` of an API's document (OpenAPI 3.1, Link Object): which calls take what another answers. The page at /docs fills its
 * forms by them, so that a call of something begins with something that is there.
 */
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";

export interface LinkSource {
  /** The call whose success answers it. */
  readonly from: string;
  /** Where in the body: a JSON pointer (RFC 6901). */
  readonly at: string;
  /** The calls that take it as `id`, and those that take it as another parameter, or in their body under another name. */
  readonly to: readonly (
    | string
    | { readonly operationId: string; readonly field: string }
    | { readonly operationId: string; readonly parameter: string }
  )[];
}

/** The same calls, each success with its links. */
export function linked(paths: ZodOpenApiPathsObject, sources: readonly LinkSource[]): ZodOpenApiPathsObject {
  const items = Object.entries(paths).map(([path, item]) => {
    const operations = Object.entries(item as { readonly [method: string]: ZodOpenApiOperationObject });
    return [path, Object.fromEntries(operations.map(([method, one]) => [method, withLinks(one, sources)]))];
  });
  return Object.fromEntries(items);
}

function withLinks(operation: ZodOpenApiOperationObject, sources: readonly LinkSource[]): ZodOpenApiOperationObject {
  const links = Object.fromEntries(
    sources
      .filter(({ from }) => from === operation.operationId)
      .flatMap(({ at, to }) => to.map((one) => linkTo(one, at))),
  );
  if (Object.keys(links).length === 0) return operation;
  const responses = Object.entries(operation.responses).map(([status, response]) => [
    status,
    status.startsWith("2") ? { ...response, links } : response,
  ]);
  return { ...operation, responses: Object.fromEntries(responses) };
}

function linkTo(target: LinkSource["to"][number], at: string) {
  const value = `$response.body#${at}`;
  if (typeof target === "string") return [target, { operationId: target, parameters: { id: value } }] as const;
  const { operationId } = target;
  // A call may take several values of one answer: each is a link of its own.
  if ("parameter" in target) {
    const { parameter } = target;
    return [`${operationId}-${parameter}`, { operationId, parameters: { [parameter]: value } }] as const;
  }
  const { field } = target;
  return [`${operationId}-${field}`, { operationId, requestBody: { [field]: value } }] as const;
}
