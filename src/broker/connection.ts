/**
 * A connection to Redis, which lives until the first thing goes wrong with it: whoever has it makes another then, and
 * looks at everything anew. So that a Redis that was emptied, or another that has taken its place, is noticed.
 */
import { createClient } from "@redis/client";

const CONNECT_MS = 5_000;
/** Beyond the time that a command may block by itself. */
const ANSWER_MS = 10_000;
const NEVER = new AbortController().signal;

type Client = ReturnType<typeof newClient>;
export type RedisReply = string | number | null | readonly RedisReply[];

/** What will not be better at the next attempt. */
export class RedisRefusedError extends Error {}

export interface Redis {
  /** @throws Error when Redis refuses it, or does not answer: the connection is closed then, except after a refusal. */
  call(args: readonly string[], blockMs?: number): Promise<RedisReply>;
  subscribe(channel: string, listener: (message: string) => void): Promise<void>;
  readonly isOpen: boolean;
  close(): void;
}

export type Connect = (url: string, signal: AbortSignal) => Promise<Redis>;

/**
 * @param url `redis://` or `rediss://`, or with Sentinel `rediss+sentinel://HOST:PORT,HOST:PORT/NAME`, which both speak
 *     TLS; without the second s, neither, and all on loopback.
 * @param signal gives up an attempt; a connection that is made it leaves alone.
 * @throws RedisRefusedError when it is a Redis Cluster, whose keys are on several servers.
 */
export async function connectRedis(url: string, signal: AbortSignal = NEVER): Promise<Redis> {
  const client = await opened(await addressOf(url, signal), signal);
  const giveUp = () => end(client);
  signal.addEventListener("abort", giveUp);
  const call = (args: readonly string[], blockMs = 0) => answered(client, args, blockMs);
  try {
    const info = String(await call(["INFO", "cluster"]));
    if (/^cluster_enabled:1/m.test(info)) {
      throw new RedisRefusedError("this is a Redis Cluster: set cluster.redis_url to a single Redis, or to Sentinels");
    }
    const role = await call(["ROLE"]);
    if (Array.isArray(role) && role[0] !== "master") throw new Error("this Redis is a replica, and takes no changes");
    signal.throwIfAborted();
  } catch (error) {
    end(client);
    throw error;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
  return {
    call,
    subscribe: async (channel, listener) => {
      await client.subscribe(channel, listener);
    },
    get isOpen() {
      return client.isReady;
    },
    close() {
      end(client);
    },
  };
}

function newClient(url: string) {
  return createClient({
    url,
    RESP: 2,
    disableOfflineQueue: true,
    socket: { connectTimeout: CONNECT_MS, reconnectStrategy: false },
  });
}

/** The client's own limit ends with the TCP connection; who answers there may say nothing. */
async function opened(url: string, signal: AbortSignal): Promise<Client> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]);
  limit.throwIfAborted();
  const client = newClient(url);
  // What goes wrong is told by the command that it goes wrong with.
  client.on("error", () => undefined);
  const over = new Promise<never>((_, reject) => {
    limit.addEventListener("abort", () => reject(limit.reason), { once: true });
  });
  try {
    await Promise.race([client.connect(), over]);
    return client;
  } catch (error) {
    end(client);
    throw error;
  }
}

function end(client: Client): void {
  if (client.isOpen) client.destroy();
}

async function answered(client: Client, args: readonly string[], blockMs: number): Promise<RedisReply> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      end(client);
      reject(new Error(`Redis did not answer ${args[0]} in time`));
    }, blockMs + ANSWER_MS);
  });
  try {
    return (await Promise.race([client.sendCommand([...args]), late])) as unknown as RedisReply;
  } finally {
    clearTimeout(timer);
  }
}

const SENTINEL = /^(rediss?)\+sentinel:\/\/(?:([^@/]*)@)?([^/]+)\/([\w.-]+)$/;
const LOOPBACK = /^(?:127\.\d+\.\d+\.\d+|::1|localhost)$/;

/** Where Redis is now: the master, where Sentinels are to be asked. */
async function addressOf(url: string, signal: AbortSignal): Promise<string> {
  const [, scheme, user, hosts, name] = SENTINEL.exec(url) ?? [];
  if (hosts === undefined || name === undefined) return url;
  let trouble: unknown = null;
  for (const host of hosts.split(",")) {
    try {
      const sentinel = await opened(`${scheme}://${host}`, signal);
      try {
        const found = await answered(sentinel, ["SENTINEL", "get-master-addr-by-name", name], 0);
        if (Array.isArray(found)) return masterUrl(scheme as string, user, String(found[0]), String(found[1]));
        trouble = new Error(`Sentinel ${host} knows no master ${name}`);
      } finally {
        end(sentinel);
      }
    } catch (error) {
      if (error instanceof RedisRefusedError) throw error;
      trouble = error;
    }
  }
  throw trouble;
}

/** @throws RedisRefusedError when it would be spoken to in the clear over a network. */
function masterUrl(scheme: string, user: string | undefined, host: string, port: string): string {
  if (scheme === "redis" && !LOOPBACK.test(host)) {
    throw new RedisRefusedError(`the master is at ${host}, in the clear: use rediss+sentinel://`);
  }
  return `${scheme}://${user === undefined ? "" : `${user}@`}${host.includes(":") ? `[${host}]` : host}:${port}`;
}
