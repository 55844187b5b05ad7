/** How a call gets to the daemon and its answer back. This one needs nothing but `fetch`: it works in a browser too. */
import { Unreachable } from "./errors.ts";

export interface Ask {
  readonly method: string;
  /** From the root of the API, with its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly signal: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly header: (name: string) => string | null;
  readonly text: () => Promise<string>;
  /** The body as it comes. */
  readonly pieces: () => AsyncIterable<Uint8Array>;
}

/** @throws {Unreachable} when no answer came; what the signal was aborted with when it was. */
export type Transport = (ask: Ask) => Promise<Reply>;

export function fetchTransport(url: string): Transport {
  const base = url.replace(/\/+$/, "");
  return async ({ method, path, headers, body, signal }) => {
    try {
      const answer = await fetch(base + path, { method, headers, body, signal, redirect: "error" });
      return {
        status: answer.status,
        header: (name) => answer.headers.get(name),
        text: () => answer.text(),
        pieces: () => answer.body ?? noPieces(),
      };
    } catch (error) {
      signal.throwIfAborted();
      const code = codeOf(error) ?? codeOf((error as { cause?: unknown }).cause);
      throw new Unreachable(`${base}: ${code ?? messageOf(error)}`, code === "ECONNREFUSED", error);
    }
  };
}

async function* noPieces(): AsyncGenerator<Uint8Array> {}

export function codeOf(error: unknown): string | null {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : null;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
