/** The same by `node:http`: it starts sooner than `fetch`, and it can call a Unix socket. */
import type { IncomingMessage, request as Request } from "node:http";
import { createRequire } from "node:module";
import { Unproven, Unreachable } from "./errors.ts";
import { PROOF, PROVE, prove, socketAt } from "./proof.ts";
import { type Ask, codeOf, messageOf, type Reply, type Transport } from "./transport.ts";

/** Nobody listens, or there is no such socket: the call arrived nowhere. Who may not use it (EACCES) cannot tell. */
const REFUSED: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT", "ENOTFOUND", "EAI_AGAIN"]);

/** Not by `import`: that asks for each export of `node:http`, and so loads undici for its WebSocket. */
const load = createRequire(import.meta.url);

/** @param url `http://`, `https://`, or `unix:` and the path of a socket. */
export function nodeTransport(url: string): Transport {
  if (url.startsWith("unix:")) return socketTransport(url);
  const target = new URL(url);
  const base = target.pathname.replace(/\/+$/, "");
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const by = target.protocol === "https:" ? "node:https" : "node:http";
  return (ask) => send(url, by, { host, port: target.port, path: base + ask.path }, ask);
}

/** Of one that was too late, or whose daemon was started anew meanwhile, another is made. */
const MAX_PROOFS = 2;
/** A daemon that is being started has no folder yet, and a disk is full for a while. */
const PASSING: ReadonlySet<string> = new Set(["ENOENT", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE"]);

/** Whoever is asked who calls proves it, and calls again. */
function socketTransport(url: string): Transport {
  const given = url.slice("unix:".length).replace(/^\/\//, "");
  return async (ask) => {
    const socketPath = socketAt(given);
    const at = { socketPath, path: ask.path };
    let reply = await send(url, "node:http", at, ask);
    for (let proofs = 0; proofs < MAX_PROOFS; proofs++) {
      const nonce = reply.status === 401 ? reply.header(PROVE) : null;
      if (nonce === null) break;
      await reply.text();
      const removed = proved(url, socketPath, nonce);
      try {
        reply = await send(url, "node:http", at, { ...ask, headers: { ...ask.headers, [PROOF]: nonce } });
      } finally {
        removed();
      }
    }
    if (reply.status !== 401 || reply.header(PROVE) === null) return reply;
    await reply.text();
    throw new Unproven("the daemon asks who calls, and does not take the proof");
  };
}

function proved(url: string, socketPath: string, nonce: string): () => void {
  try {
    return prove(socketPath, nonce);
  } catch (error) {
    const detail = `the daemon asks who calls, and that cannot be proved: ${messageOf(error)}`;
    // Somebody answers, so the daemon is not down.
    if (PASSING.has(codeOf(error) ?? "")) throw new Unreachable(`${url}: ${detail}`, false, error);
    throw new Unproven(detail);
  }
}

async function send(
  url: string,
  by: "node:http" | "node:https",
  at: object,
  { method, headers, body, signal }: Ask,
): Promise<Reply> {
  signal.throwIfAborted();
  const { request }: { readonly request: typeof Request } = load(by);
  return new Promise((resolve, reject) => {
    const options = {
      ...at,
      method,
      signal,
      headers: body === null ? headers : { ...headers, "content-length": Buffer.byteLength(body) },
    };
    const call = request(options, (answer) => resolve(replyOf(answer, url, signal)));
    call.once("error", (error) => {
      if (signal.aborted) return reject(signal.reason);
      const code = codeOf(error);
      reject(new Unreachable(`${url}: ${code ?? messageOf(error)}`, code !== null && REFUSED.has(code), error));
    });
    call.end(body ?? undefined);
  });
}

function replyOf(answer: IncomingMessage, url: string, signal: AbortSignal): Reply {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of answer) yield piece;
    } catch (error) {
      signal.throwIfAborted();
      throw new Unreachable(`${url}: ${codeOf(error) ?? messageOf(error)}`, false, error);
    }
  }
  return {
    status: answer.statusCode ?? 0,
    header: (name) => {
      const value = answer.headers[name.toLowerCase()];
      return Array.isArray(value) ? value.join(", ") : (value ?? null);
    },
    text: async () => {
      const parts: Uint8Array[] = [];
      for await (const piece of pieces()) parts.push(piece);
      return Buffer.concat(parts).toString();
    },
    pieces,
  };
}
