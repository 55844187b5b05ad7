/** Why the daemon cannot listen where the settings say, and what to do. */
import { inWords, listenerOn } from "../platform/processes.ts";

export class ListenError extends Error {
  override readonly name = "ListenError";
}

/** The error to throw for one that the system gave. */
export function listenTrouble(error: unknown, host: string, port: number): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const words = wordsFor(code, host, port);
  return words === null ? error : new ListenError(words, { cause: error });
}

/** The same of a unix socket. */
export function socketTrouble(error: unknown, path: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const words = code === undefined ? undefined : SOCKET_WORDS[code];
  return words === undefined ? error : new ListenError(`server.socket ${path}: ${words} (${code})`, { cause: error });
}

const ELSEWHERE = "set server.socket to a path in a folder of the daemon's own, such as the unit's RuntimeDirectory";
const SOCKET_WORDS: Readonly<Record<string, string | undefined>> = {
  EACCES: `this user may not make it there: ${ELSEWHERE}`,
  EPERM: `this user may not make it there: ${ELSEWHERE}`,
  EROFS: `the folder is read-only for the daemon: ${ELSEWHERE}`,
  EADDRINUSE:
    "another process listens there, or it is something else than a socket: stop that one, or remove the file, or choose another path",
};

function wordsFor(code: string | undefined, host: string, port: number): string | null {
  if (code === "EADDRINUSE") {
    const holder = listenerOn(port);
    const by = holder === null ? "another process (`ss -ltnp` as root says which)" : inWords(holder);
    return `port ${port} is taken by ${by}: stop that one, or set server.port (PORT, --port) to another`;
  }
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return `${host} is no address of this host (${code}): set server.host to one of \`ip addr\`, to 127.0.0.1 or to 0.0.0.0`;
  }
  if (code === "EACCES") {
    return `this user may not listen on port ${port}: set server.port to 1024 or more, or put a proxy in front`;
  }
  return null;
}
