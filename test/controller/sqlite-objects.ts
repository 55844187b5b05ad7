/** Objects and their history in one file of SQLite, as tests that need both and no more have them. */
import type { DeploymentEvent, History, ScalingBegun, ScalingQuery } from "../../src/controller/objects/store.ts";
import { Recorder } from "../../src/controller/store/history.ts";
import { DatabaseObjects } from "../../src/controller/store/objects.ts";
import { SqliteDatabase } from "../../src/controller/store/sqlite.ts";
import { deploymentNoted } from "../../src/controller/store/tracker.ts";

export class SqliteObjects extends DatabaseObjects implements History {
  readonly trouble = null;
  readonly unread = null;
  readonly #database: SqliteDatabase;
  readonly recorder: Recorder;

  static async open(path: string): Promise<SqliteObjects> {
    const objects = new SqliteObjects(path);
    await objects.refresh();
    return objects;
  }

  /** Of objects nothing is known before they are read; history needs no reading. */
  constructor(path: string) {
    const database = new SqliteDatabase(path);
    super(database);
    this.#database = database;
    const log = { error: (facts: object) => console.error(facts) };
    const deployment = (id: string, tenant: string, at: string) => deploymentNoted(this, id, tenant, at);
    this.recorder = new Recorder({ database, deployment, log });
  }

  get figures() {
    return this.recorder;
  }

  noteDeployment(...whose: Parameters<Recorder["noteDeployment"]>): void {
    this.recorder.noteDeployment(...whose);
  }

  beginScaling(event: ScalingBegun): void {
    this.recorder.beginScaling(event);
  }

  endScaling(...how: Parameters<Recorder["endScaling"]>): void {
    this.recorder.endScaling(...how);
  }

  scalings(query: ScalingQuery) {
    return this.recorder.scalings(query);
  }

  addEvent(event: DeploymentEvent): void {
    this.recorder.addEvent(event);
  }

  events(deploymentId: string, limit: number) {
    return this.recorder.events(deploymentId, limit);
  }

  tenantOf(deploymentId: string) {
    return this.recorder.tenantOf(deploymentId);
  }

  async close(): Promise<void> {
    await this.recorder.close();
    await this.#database.close();
  }
}
