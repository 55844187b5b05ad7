/**
 * Which of several controllers of one host decides: the one that has the database's lock. The lock goes with its session, so
 * one that ends, or is cut off, has it no longer, and one that is only stopped for a while keeps it.
 *
 * While the database is away nobody can be asked. One that was alone goes on then, however long: the database may be away for
 * everybody. Of another one that comes meanwhile, and reaches the database, it learns by the daemon (host/fence.ts). One of
 * several rests, since another may reach the database that this one does not.
 */
import pg from "pg";
import type { PostgresSettings } from "./address.ts";
import { clientConfig } from "./postgres.ts";

const LOOK_MS = 2_000;
/** Two locks of ours, in each schema: one decides, the other says how many there are. Their classes are `GpuC` and `GpuH`. */
const DECIDES = 0x47707543;
const IS_HERE = 0x47707548;

interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

export class DatabaseLock {
  readonly #settings: PostgresSettings;
  readonly #log: Log;
  /** Another one decides now. */
  readonly #lost: () => void;
  /** The session that got the lock. */
  #holder: pg.Client | null = null;
  #client: pg.Client | null = null;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;
  #decides = false;
  #others = 0;

  constructor(settings: PostgresSettings, log: Log, lost: () => void) {
    this.#settings = settings;
    this.#log = log;
    this.#lost = lost;
  }

  get isHeld(): boolean {
    return this.state !== "none";
  }

  get state(): "held" | "alone" | "none" {
    if (this.#client === null) return this.#decides && this.#others === 0 ? "alone" : "none";
    // What a session before this one had says nothing: another may have it meanwhile.
    return this.#holder === this.#client ? "held" : "none";
  }

  start(): void {
    this.#looking = this.#look();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#looking;
    [this.#decides, this.#holder] = [false, null];
    await this.#client?.end().catch(() => undefined);
  }

  async #look(): Promise<void> {
    try {
      this.#client ??= await this.#connected();
      await this.#ask(this.#client);
    } catch (error) {
      this.#dropped(error as Error);
    }
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#look();
    }, LOOK_MS);
  }

  async #connected(): Promise<pg.Client> {
    const client = new pg.Client({
      ...clientConfig(this.#settings),
      query_timeout: LOOK_MS,
    });
    client.on("error", (error) => {
      if (this.#client === client) this.#dropped(error);
    });
    try {
      await client.connect();
      await client.query(`SELECT pg_advisory_lock_shared(${IS_HERE}, hashtext($1))`, [this.#settings.schema]);
      return client;
    } catch (error) {
      void client.end().catch(() => undefined);
      throw error;
    }
  }

  async #ask(client: pg.Client): Promise<void> {
    const { rows } = await client.query(
      `SELECT ${this.#holder === client ? "true" : `pg_try_advisory_lock(${DECIDES}, hashtext($1))`} AS decides,
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = ${IS_HERE}
          AND objid = hashtext($1)::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND pid <> pg_backend_pid())::int AS others`,
      [this.#settings.schema],
    );
    const [{ decides, others }] = rows;
    if (decides) this.#holder = client;
    this.#others = others;
    if (decides !== this.#decides) {
      this.#log.info({}, decides ? "this controller decides" : "another controller decides");
      if (!decides) this.#lost();
    }
    this.#decides = decides;
  }

  #dropped({ message }: Error): void {
    const client = this.#client;
    this.#client = null;
    this.#holder = null;
    if (client === null) return;
    this.#log.warn({ trouble: message }, "the database's lock cannot be looked at");
    void client.end().catch(() => undefined);
  }
}
