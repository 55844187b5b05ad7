/** What an answer fills in the forms of other calls, by the links of the API's document (OpenAPI 3.1, Link Object). Pure. */

export interface Document {
  readonly paths: { readonly [path: string]: { readonly [method: string]: Operation } };
  readonly security?: readonly object[];
  readonly components?: { readonly securitySchemes?: { readonly apiKey?: { readonly name: string } } };
}

export interface Operation {
  readonly operationId?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly Parameter[];
  readonly responses: { readonly [status: string]: { readonly links?: { readonly [name: string]: Link } } };
  readonly requestBody?: { readonly content: { readonly [type: string]: { readonly example?: unknown } } };
}

export interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema?: { readonly example?: unknown };
}

interface Link {
  readonly operationId: string;
  readonly parameters?: { readonly [name: string]: string };
  readonly requestBody?: { readonly [field: string]: string };
}

/** A value for one field of the form of a call. */
export interface Filling {
  readonly path: string;
  readonly method: string;
  /** `null`: its body, which is then JSON. */
  readonly parameter: Parameter | null;
  readonly value: string;
  /** What stands there when nobody has touched it. */
  readonly example: string | null;
}

const BODY = "$response.body#";

/** @param body what the call answered, read as JSON. */
export function fillings(document: Document, path: string, method: string, status: number, body: unknown): Filling[] {
  const links = Object.values(document.paths[path]?.[method]?.responses[status]?.links ?? {});
  return links.flatMap((link) => filled(document, link, body));
}

function filled(document: Document, { operationId, parameters = {}, requestBody }: Link, body: unknown): Filling[] {
  const target = calls(document).find(({ operation }) => operation.operationId === operationId);
  if (target === undefined) return [];
  const { path, method, operation } = target;
  const found: Filling[] = [];
  for (const [name, expression] of Object.entries(parameters)) {
    const value = pointedAt(body, expression);
    const parameter = operation.parameters?.find((one) => one.name === name);
    if (value === null || parameter === undefined) continue;
    found.push({ path, method, parameter, value, example: textOf(parameter.schema?.example) });
  }
  const fields = Object.entries(requestBody ?? {}).map(([name, expression]) => [name, pointedAt(body, expression)]);
  if (fields.length > 0 && fields.every(([, value]) => value !== null)) {
    const { example } = operation.requestBody?.content["application/json"] ?? {};
    const value = textOf({ ...(example as object | undefined), ...Object.fromEntries(fields) }) as string;
    found.push({ path, method, parameter: null, value, example: textOf(example) });
  }
  return found;
}

export function calls(document: Document) {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );
}

/** Who asks: as what, and whether there is work. */
export interface Asking {
  readonly role: string;
  readonly work: boolean;
}

/** Chapters of calls that are refused: by a daemon without work, and to whoever is no admin. */
const WORK = "Work";
const ADMINISTRATION = "Administration";

/** Calls that only look, need nothing and have links: what is there already, as far as whoever asks may see it. */
export function lists(document: Document, { role, work }: Asking): string[] {
  const refused = [...(work ? [] : [WORK]), ...(role === "admin" ? [] : [ADMINISTRATION])];
  return calls(document)
    .filter(({ method, operation: { parameters = [], responses, tags = [] } }) => {
      const isFree = method === "get" && !parameters.some(({ required }) => required === true);
      return isFree && responses["200"]?.links !== undefined && !tags.some((tag) => refused.includes(tag));
    })
    .map(({ path }) => path);
}

/** `null`: there is nothing in the answer. */
function pointedAt(body: unknown, expression: string): string | null {
  if (!expression.startsWith(BODY)) return null;
  const steps = expression.slice(BODY.length).split("/").slice(1);
  const found = steps.reduce<unknown>(
    (at, step) => (typeof at === "object" && at !== null ? (at as Record<string, unknown>)[step] : undefined),
    body,
  );
  return typeof found === "string" || typeof found === "number" ? String(found) : null;
}

/** As Swagger UI writes an example. */
function textOf(value: unknown): string | null {
  if (value === undefined) return null;
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}
