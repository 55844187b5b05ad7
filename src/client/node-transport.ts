/** The same by `node:http`: it starts sooner than `fetch`, and it can call a Unix socket. */
import type { IncomingMessage, request as Request } from "node:http";
import { createRequire } from "node:module";
import { Unreachable } from "./errors.ts";
import { codeOf, messageOf, type Reply, type Transport } from "./transport.ts";

/** Nobody listens, or there is no such socket: the call arrived nowhere. Who may not use it (EACCES) cannot tell. */
const REFUSED: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT", "ENOTFOUND", "EAI_AGAIN"]);

/** Not by `import`: that asks for each export of `node:http`, and so loads undici for its WebSocket. */
const load = createRequire(import.meta.url);

/** @param url `http://`, `https://`, or `unix:` and the path of a socket. */
export function nodeTransport(url: string): Transport {
  const socket = url.startsWith("unix:") ? url.slice("unix:".length).replace(/^\/\//, "") : null;
  const target = new URL(socket === null ? url : "http://localhost");
  const base = target.pathname.replace(/\/+$/, "");
  return async ({ method, path, headers, body, signal }) => {
    signal.throwIfAborted();
    const { request }: { readonly request: typeof Request } = load(
      target.protocol === "https:" ? "node:https" : "node:http",
    );
    return new Promise((resolve, reject) => {
      const options = {
        method,
        signal,
        headers: body === null ? headers : { ...headers, "content-length": Buffer.byteLength(body) },
        ...(socket === null
          ? { host: target.hostname.replace(/^\[|\]$/g, ""), port: target.port, path: base + path }
          : { socketPath: socket, path }),
      };
      const call = request(options, (answer) => resolve(replyOf(answer, url, signal)));
      call.once("error", (error) => {
        if (signal.aborted) return reject(signal.reason);
        const code = codeOf(error);
        reject(new Unreachable(`${url}: ${code ?? messageOf(error)}`, code !== null && REFUSED.has(code), error));
      });
      call.end(body ?? undefined);
    });
  };
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
