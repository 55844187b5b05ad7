/**
 * The page at /docs: Swagger UI, whose forms begin with what is there.
 *
 *  1. A form has the example of the document until something answers with a better value: a list at the start, or a call.
 *  2. What somebody has typed stays.
 */
import { glimpse } from "./glimpse.ts";
import { type Asking, type Document, type Filling, fillings, lists } from "./links.ts";

/** What of Swagger UI is used here. */
interface System {
  readonly getState: () => { getIn(path: readonly string[]): unknown };
  readonly specActions: {
    changeParam(call: readonly [string, string], name: string, place: string, value: string, isXml: boolean): void;
  };
  readonly oas3Actions: {
    setRequestBodyValue(given: { readonly value: string; readonly pathMethod: readonly [string, string] }): void;
  };
}
interface Answer {
  readonly status: number;
  readonly body?: unknown;
}
type Authorized = Readonly<Record<string, { readonly schema: unknown; readonly value: unknown }>>;
type Wrapped<Args extends unknown[]> = (
  original: (...args: Args) => unknown,
  system: System,
) => (...args: Args) => unknown;
declare function SwaggerUIBundle(options: object): { getSystem(): System };

const DOCUMENT = "/openapi.json";
/** Who one is here, and whether there is work; the controller's API has no such call. */
const ME = "/gpu/me";
/** What was put in a form here, by its place. */
const put = new Map<string, string>();
const read: Promise<Document> = fetch(DOCUMENT).then((answer) => answer.json());

function fill(system: System, { path, method, parameter, value, example }: Filling): void {
  const call = [path, method] as const;
  const place =
    parameter === null
      ? ["oas3", "requestData", path, method, "bodyValue"]
      : ["spec", "meta", "paths", path, method, "parameters", `${parameter.in}.${parameter.name}`, "value"];
  const now = system.getState().getIn(place);
  const isTyped = now !== undefined && now !== "" && now !== example && now !== put.get(place.join());
  if (isTyped) return;
  put.set(place.join(), value);
  if (parameter === null) system.oas3Actions.setRequestBodyValue({ value, pathMethod: call });
  else system.specActions.changeParam(call, parameter.name, parameter.in, value, false);
}

async function follow(system: System, path: string, method: string, { status, body }: Answer): Promise<void> {
  for (const filling of fillings(await read, path, method, status, body)) fill(system, filling);
}

/** Looks what is there. */
async function look(system: System, headers: Record<string, string>): Promise<void> {
  const document = await read;
  const who = document.paths[ME] === undefined ? anybodyOf(document) : await whoAmI(headers);
  if (who === null) return;
  for (const path of lists(document, who)) {
    const answer = await fetch(path, { headers });
    if (answer.ok) await follow(system, path, "get", { status: answer.status, body: await answer.json() });
  }
}

async function whoAmI(headers: Record<string, string>): Promise<Asking | null> {
  const me = await fetch(ME, { headers });
  return me.ok ? ((await me.json()) as Asking) : null;
}

/** Where nobody can ask who one is: without keys everybody is an admin, and of a key nothing is known. */
function anybodyOf(document: Document): Asking {
  return { role: document.security === undefined ? "admin" : "read", work: false };
}

function keyOf(authorized: Authorized, headerName: unknown): Record<string, string> {
  const { apiKey, bearer } = authorized;
  if (apiKey !== undefined) return { [String(headerName)]: String(apiKey.value) };
  return bearer === undefined ? {} : { Authorization: `Bearer ${String(bearer.value)}` };
}

const setResponse: Wrapped<[string, string, Answer]> = (original, system) => (path, method, answer) => {
  void follow(system, path, method, answer);
  return original(path, method, answer);
};

const authorize: Wrapped<[Authorized]> = (original, system) => (authorized) => {
  void read.then((document) => look(system, keyOf(authorized, headerOf(document))));
  return original(authorized);
};

function headerOf(document: Document): unknown {
  return document.components?.securitySchemes?.apiKey?.name;
}

const ui = SwaggerUIBundle({
  url: DOCUMENT,
  dom_id: "#api",
  validatorUrl: null,
  plugins: [{ statePlugins: { spec: { wrapActions: { setResponse } }, auth: { wrapActions: { authorize } } } }],
  requestInterceptor: (request: object) => ({ ...request, userFetch: glimpse }),
  onComplete: () =>
    void read.then((document) => (document.security === undefined ? look(ui.getSystem(), {}) : undefined)),
});
