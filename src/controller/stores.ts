/** The database that the settings choose, and what is kept in it. */
import type { Logger } from "../platform/logger.ts";
import type { Objects } from "./objects/store.ts";
import type { ControllerSettings } from "./settings/settings.ts";
import { addressOf } from "./store/address.ts";
import type { Database } from "./store/database.ts";
import { GuardedDatabase } from "./store/guard.ts";
import { Recorder } from "./store/history.ts";
import type { DatabaseLock } from "./store/lock.ts";
import { DatabaseObjects } from "./store/objects.ts";
import { SqliteDatabase } from "./store/sqlite.ts";
import { deploymentNoted } from "./store/tracker.ts";

/** What others have changed is seen after so long. */
const FOLLOW_MS = 1_000;
/** Whether a PostgreSQL is there is known after so long, also when there is nothing to be written. */
const BEAT_MS = 5_000;

export class Stores {
  readonly database: GuardedDatabase;
  /** Of the backend `host`; in a cluster it stays empty. */
  readonly objects: DatabaseObjects;
  /** Says which of several controllers of one host decides; `null`: there is only one. */
  #lock: DatabaseLock | null = null;
  readonly #isShared: boolean;
  #history: Recorder | null = null;
  #timer: NodeJS.Timeout | null = null;
  #beat: NodeJS.Timeout | null = null;
  #following: Promise<void> = Promise.resolve();

  static async open(settings: ControllerSettings, log: Logger): Promise<Stores> {
    const stores = new Stores(settings, await databaseOf(settings, log), log);
    if (settings.backend === "host" && settings.postgres !== null) {
      const { DatabaseLock } = await import("./store/lock.ts");
      stores.#lock = new DatabaseLock(settings.postgres, log, () => stores.objects.dropUnwritten());
    }
    if (settings.backend === "host" && settings.postgres === null) await stores.objects.refresh();
    if (settings.postgres !== null) stores.#keepAsking();
    return stores;
  }

  private constructor({ postgres }: ControllerSettings, database: Database, log: Logger) {
    this.database = new GuardedDatabase(database, log);
    this.objects = new DatabaseObjects(this.database);
    this.#isShared = postgres !== null;
  }

  /** On one host: whether this controller decides. Before the objects are read nobody does. */
  get leads(): boolean {
    return this.objects.isLoaded && (this.#lock?.isHeld ?? true);
  }

  /** That of the database; `held` where there is none, since there is one controller then. */
  get lock(): "held" | "alone" | "none" {
    return this.#lock?.state ?? "held";
  }

  /** Why nothing is known of the objects of a host yet; `null`: it is. */
  get unread(): string | null {
    return this.objects.isLoaded ? null : `the database has not been read: ${this.trouble ?? "that begins now"}`;
  }

  get trouble(): string | null {
    return this.database.trouble;
  }

  get figures() {
    const { buffered = 0, written = 0, dropped = 0 } = this.#history ?? {};
    return { buffered, written, dropped };
  }

  historyOf(objects: Objects, log: Logger): Recorder {
    const deployment = (id: string, tenant: string, at: string) => deploymentNoted(objects, id, tenant, at);
    this.#history = new Recorder({ database: this.database, deployment, log });
    return this.#history;
  }

  /** Reads from now on what other controllers change in the objects. */
  follow(): void {
    this.#lock?.start();
    const again = () => {
      this.#following = this.#catchUp().finally(() => {
        if (this.#timer !== null) this.#timer = setTimeout(again, FOLLOW_MS);
      });
    };
    this.#timer = setTimeout(again, 0);
  }

  async #catchUp(): Promise<void> {
    try {
      if (this.#isShared || !this.objects.isLoaded) await this.objects.refresh();
      await this.objects.writeStatuses();
    } catch {
      // The guard has said so; the next one makes up for it.
    }
  }

  #keepAsking(): void {
    const ask = () => void this.database.run([{ sql: "SELECT 1" }]).catch(() => undefined);
    ask();
    this.#beat = setInterval(ask, BEAT_MS);
  }

  async prune(now: number): Promise<void> {
    await this.objects.prune(now);
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#beat !== null) clearInterval(this.#beat);
    await this.#following;
    await this.#lock?.stop();
    await this.database.close();
  }
}

async function databaseOf({ backend, database, postgres }: ControllerSettings, log: Logger): Promise<Database> {
  if (postgres !== null) {
    const { PostgresDatabase } = await import("./store/postgres.ts");
    log.info({ database: addressOf(postgres), tls: postgres.tls !== null }, "the database is a PostgreSQL");
    return new PostgresDatabase(postgres);
  }
  try {
    return new SqliteDatabase(database);
  } catch (error) {
    if (backend !== "kubernetes" || !isUnwritable(error as NodeJS.ErrnoException)) throw error;
    // Its objects are the apiserver's: only history is lost with this process.
    log.warn({ database, err: error }, "there is no writing there: the history of scaling stays in memory");
    return new SqliteDatabase(":memory:");
  }
}

/** SQLite's own codes: 8 is a file that cannot be written, 14 one that cannot be opened or made. */
function isUnwritable({ code = "", errcode }: NodeJS.ErrnoException & { readonly errcode?: number }): boolean {
  return code === "EROFS" || code === "EACCES" || errcode === 8 || errcode === 14;
}
