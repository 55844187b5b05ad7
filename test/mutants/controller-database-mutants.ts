/** Bugs of the controller's database: in what is kept while it is away, in what is adopted, in who decides. */
import { type Mutant, planted } from "./mutant.ts";

const OBJECTS = "test/controller/store/objects.test.ts";
const HISTORY = "test/controller/store/history.test.ts";
const TRACKER = "test/controller/store/tracker.test.ts";
const POSTGRES = "test/controller/store/postgres.test.ts";
const ADOPTION = "test/controller/store/adoption.test.ts";
const LOCK = "test/controller/store/lock.test.ts";
const SQLITE = "test/controller/store/sqlite.test.ts";
const FENCE = "test/controller/host/fence.test.ts";
const MANIFESTS = "test/controller/manifests.test.ts";

export const CONTROLLER_DATABASE_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/store/history.ts",
    [HISTORY],
    [
      {
        name: "History that waits for the database has no bound",
        find: "if (this.#waiting.length >= MAX_BUFFERED) {",
        replace: "if (this.#waiting.length === Number.POSITIVE_INFINITY) {",
      },
      {
        name: "History is lost when the database is away at the moment",
        find: "const some = this.#waiting.slice(0, MAX_TOGETHER);",
        replace: "const some = this.#waiting.splice(0, MAX_TOGETHER);",
      },
      {
        name: "History whose answer was lost is told twice to the database",
        find: '.join(", ")} ON CONFLICT (event_id) DO NOTHING`',
        replace: '.join(", ")}`',
      },
      {
        name: "A change of replicas ends what begins after it, when its answer was lost",
        find: "AND (initiated_at < $2 OR event_id = $4)`",
        replace: "AND (initiated_at <= $2 OR event_id = $4)`",
      },
      {
        name: "A tenant sees the history of others",
        find: "if (tenants !== undefined) conditions.push(",
        replace: "if (tenants !== undefined && limit < 0) conditions.push(",
      },
    ],
  ),
  ...planted(
    "src/controller/store/history.ts",
    [ADOPTION],
    [
      {
        name: "Deployments of the Orchestration Service are removed after 90 days",
        find: 'older("DELETE FROM deployments WHERE cluster IS NOT NULL AND terminated_at < $1"),',
        replace: 'older("DELETE FROM deployments WHERE terminated_at < $1"),',
      },
    ],
  ),
  ...planted(
    "src/controller/store/objects.ts",
    [OBJECTS],
    [
      {
        name: "A change is made on top of one that was not seen",
        find: "WHERE kind = $1 AND namespace = $2 AND name = $3 AND version = $7 RETURNING *`;",
        replace: "WHERE kind = $1 AND namespace = $2 AND name = $3 AND $7 > 0 RETURNING *`;",
      },
      {
        name: "A status that waits for the database is forgotten when that is read again",
        find: "const isNewer = this.#unwritten.has(key) && known?.metadata.uid === metadata.uid;",
        replace: "const isNewer = known === null;",
      },
      {
        name: "Another controller's deletions are never seen",
        find: "Number(metadata.resourceVersion) <= last && ",
        replace: "Number(metadata.resourceVersion) < 0 && ",
      },
    ],
  ),
  ...planted(
    "src/controller/store/postgres-upgrade.ts",
    [ADOPTION],
    [
      {
        name: "Pods' tenants stay UUIDs in an adopted database",
        find: "const becomesWord = isWord && old.data_type",
        replace: "const becomesWord = of.byDefault !== null && isWord && old.data_type",
      },
      {
        name: "Two controllers make the tables at the same time",
        find: 'await client.query("SELECT pg_advisory_xact_lock($1)", [UPGRADE_LOCK]);',
        replace: "",
      },
      {
        name: "An adopted table lacks the defaults that rows of ours count on",
        find: "...(of.byDefault !== null && old.column_default === null",
        replace: "...(of.byDefault === null && old.column_default === null",
      },
    ],
  ),
  ...planted(
    "src/controller/store/postgres.ts",
    [POSTGRES],
    [
      {
        name: "The database's certificate is not verified",
        find: "rejectUnauthorized: true",
        replace: "rejectUnauthorized: false",
      },
      {
        name: "What was given up waits on in the server",
        find: "statement_timeout: limits.statementMs,\n    lock_timeout: limits.lockMs,",
        replace: "",
      },
      {
        name: "A controller that is stopped keeps others from every change",
        find: "idle_in_transaction_session_timeout: ANSWER_MS,",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/store/lock.ts",
    [LOCK],
    [
      {
        name: "One of several controllers goes on deciding without the database",
        find: 'return this.#decides && this.#others === 0 ? "alone" : "none";',
        replace: 'return this.#decides ? "alone" : "none";',
      },
      {
        name: "One that comes back decides until it hears that another does",
        find: 'return this.#holder === this.#client ? "held" : "none";',
        replace: 'return this.#decides ? "held" : "none";',
      },
      {
        name: "A controller of another host, in a schema of its own, counts as one of this host",
        find: "AND objid = hashtext($1)::oid AND database",
        replace: "AND hashtext($1) IS NOT NULL AND database",
      },
    ],
  ),
  ...planted(
    "src/controller/store/tracker.ts",
    [TRACKER],
    [
      {
        name: "A pod that is gone has its GPUs for ever",
        find: "(alive[index] ?? []).filter(({ id }) => !there.has(id as string))",
        replace: "(alive[index] ?? []).filter(() => false)",
      },
      {
        name: "Everything is written again each minute",
        find: "this.#written.get(keyIn(table, row)) !== digestOf(row)",
        replace: "this.#written.get(keyIn(table, row)) !== JSON.stringify({})",
      },
      {
        name: "A controller that does not decide writes what it sees",
        find: "if (!leads() || look === null) {",
        replace: "if (look === null) {",
      },
      {
        name: "A row that the database does not take holds up all others",
        find: "if (rows.length > 1) {",
        replace: "if (rows.length > 1) throw error;\n      if (rows.length > 1) {",
      },
    ],
  ),
  ...planted(
    "src/controller/store/tracker.ts",
    [ADOPTION],
    [
      {
        name: "What the Orchestration Service runs is called terminated",
        find: 'deployments: "cluster IS NOT NULL AND terminated_at IS NULL",',
        replace: 'deployments: "terminated_at IS NULL",',
      },
    ],
  ),
  ...planted(
    "src/controller/store/projection.ts",
    [TRACKER],
    [
      {
        name: "kubectl's copy of a workload is written into the database, with all that is secret in it",
        find: "annotations: json(annotationsOf(metadata)),",
        replace: "annotations: json(metadata.annotations),",
      },
      {
        name: "Half a GPU is written into a column of whole ones",
        find: 'if (type === "integer") return',
        replace: 'if (type === "serial") return',
      },
    ],
  ),
  ...planted(
    "src/controller/store/guard.ts",
    [HISTORY],
    [
      {
        name: "Everybody waits for a database that hangs",
        find: "if (isTry && (this.#isTrying || this.#now() < this.#retryAt)) throw",
        replace: "if (isTry && this.#retryAt < 0) throw",
      },
    ],
  ),
  ...planted(
    "src/controller/store/sqlite.ts",
    [SQLITE],
    [
      {
        name: "Two controllers use one file, each with a memory of its own",
        find: "this.#lock = path === IN_MEMORY ? null : lockOf(path);",
        replace: "this.#lock = path === IN_MEMORY || path !== IN_MEMORY ? null : lockOf(path);",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/manifests.ts",
    [MANIFESTS],
    [
      {
        name: "Two controllers are started that have no history in common",
        find: "replicas = database === null ? 1 : 2 }",
        replace: "replicas = 2 }",
      },
      {
        name: "The controllers in a cluster look into another schema than they were told",
        find: ", DB_SCHEMA: schema };",
        replace: " };",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/secrets.ts",
    [TRACKER],
    [
      {
        name: "A token in a pod's environment is written into the database",
        find: "return shown(env, SECRET_NAME) as",
        replace: "return shown(env, /^$/) as",
      },
      {
        name: "An engine's key among its arguments is written into the database",
        find: "...(args === undefined ? {} : { args: shownArgs(args) }),",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/host/fence.ts",
    [FENCE],
    [
      {
        name: "A controller that is cut off from its database goes on beside the one that has taken over",
        find: 'else if (state === "none" || (name !== undefined && name !== self)) this.#rest(state);',
        replace: 'else if (state === "none") this.#rest(state);',
      },
      {
        name: "A controller that takes over begins before the one that is cut off can know",
        find: "(this.#mustSettle ? SETTLE_MS : 0)",
        replace: "(this.#mustSettle ? 0 : SETTLE_MS)",
      },
      {
        name: "A controller that is cut off puts its own name over that of the one that decides",
        find: 'if (state === "held") await',
        replace: 'if (state !== "none") await',
      },
      {
        name: "A controller whose mark was written, and did not hear of it, begins at once",
        find: "this.#mustSettle = true;",
        replace: "this.#mustSettle = isRefused;",
      },
      {
        name: "A controller that is cut off decides on however long its pass takes",
        find: " && now - this.#lookedAt <= ALONE_MS",
        replace: "",
      },
      {
        name: "A controller that is cut off decides again once the other one has gone",
        find: "(name !== undefined && name !== self)",
        replace: '((name ?? "") !== "" && name !== self)',
      },
      {
        name: "A daemon that has no room for the mark keeps a controller from deciding",
        find: ' || problem.code === "work-full"',
        replace: "",
      },
      {
        name: "A controller that ends takes away the name of the one that decides",
        find: 'if (this.#parts.lock() === "held" && this.#mayFrom !== null)',
        replace: "if (this.#id !== null)",
      },
    ],
  ),
];
