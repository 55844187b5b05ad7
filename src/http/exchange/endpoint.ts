/** What an endpoint is: who may call it, and what it does per method. */
import type { Actor } from "../../core/model/ids.ts";
import type { Answer, StreamAnswer } from "./answers.ts";
import type { Role } from "./auth.ts";
import type { Client } from "./limits.ts";

/** How a request came: kept with what it changes. */
export interface Origin {
  readonly keyId: string | null;
  readonly address: string;
  /** Its method and its path's template, as the API's document has it. */
  readonly action: string;
  readonly requestId: string;
}

/** One request, admitted. */
export interface Call {
  /** Of what may change something, also how it came. */
  readonly actor: Actor & { readonly origin?: Origin };
  readonly role: Role;
  /** Whether a key says who calls. */
  readonly keyed: boolean;
  /** Whether that key may ask on behalf of other principals. */
  readonly delegate: boolean;
  /** The user of this host who calls, by the kernel's word; `null`: nobody says. */
  readonly uid: number | null;
  /** The path's parameter; empty for a path that has none. */
  readonly id: string;
  /** What a path that ends in a wildcard has there, decoded; otherwise empty. */
  readonly rest: string;
  readonly url: string;
  /** At which it came; `null`: by the socket. */
  readonly port: number | null;
  /** `undefined` when there is none. */
  readonly body: unknown;
  readonly accept: string | undefined;
  readonly acceptEncoding: string | undefined;
  readonly prefer: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly lastEventId: string | undefined;
  /** `X-Tenant-ID`: whom a service calls for. */
  readonly tenant: string | undefined;
  /** Whose share it is; `null`: no limit is for it. */
  readonly client: Pick<Client, "mayNotify"> | null;
  readonly hold: Hold;
}

/**
 * Runs a wait before the answer, with a signal that ends it early: the client has gone, or the daemon shuts down.
 *
 * @returns `null`, without running it, when this request may not wait; it is to be answered with what there is.
 */
export type Hold = <T>(wait: (signal: AbortSignal) => Promise<T>) => Promise<T> | null;

export interface Operation {
  readonly role: Role;
  /** What becomes of a body: `ignored` ones are not even read. */
  readonly body: "needed" | "optional" | "ignored";
  /** Its body may be YAML, and comes as a {@link TextBody}, unparsed. Otherwise it is JSON, and comes parsed. */
  readonly takesText?: true;
  /** It reads the parameters after `?`, and refuses those that it does not know. Without this any is refused. */
  readonly takesQuery?: true;
  /** Gives GPUs back or keeps a lease alive: it is let through where other requests of its client are not any more. */
  readonly essential?: true;
  /** A stream is answered at once, so that its connection is known to be taken when the next request on it comes. */
  readonly answer: (call: Call) => Answer | StreamAnswer | Promise<Answer>;
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export type Methods = { readonly [method in Method]?: Operation };

export interface Endpoint {
  /** As express has it; also the metrics' label. */
  readonly path: string;
  /** The same as the API's document has it. */
  readonly documented: string;
  /** `key`: asks for one when authentication is on. `open`: none, under any `Host`. `probe`: also under any `Origin`. */
  readonly access: "key" | "open" | "probe";
  readonly methods: Methods;
  /** What its ids look like, where something else may be a secret in the wrong place: that is written down nowhere. */
  readonly idForm?: RegExp;
  /** The methods as an `Allow` header lists them; empty for a path that is not there. */
  readonly allow: string;
}

export function endpoint(
  path: string,
  access: Endpoint["access"],
  methods: Methods,
  more: Pick<Endpoint, "idForm"> = {},
): Endpoint {
  const names = Object.keys(methods).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  const documented = path.replace(/[:*](\w+)/g, "{$1}");
  return { path, documented, access, methods, ...more, allow: [...names, "OPTIONS"].join(", ") };
}
