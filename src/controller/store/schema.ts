/**
 * The tables, said once for both databases.
 *
 * `gpu_nodes`, `deployments`, `pod_allocations` and `scaling_events` have the Orchestration Service's columns, keys and
 * names of indexes, so that what reads them there reads them here. Times are UTC without a zone, as there.
 */
export type Dialect = "sqlite" | "postgres";

type Type =
  | "serial"
  | "text"
  | "integer"
  | "bigint"
  | "float"
  | "boolean"
  | "json"
  | "time"
  | { readonly varchar: number };

export interface Column {
  readonly type: Type;
  /** A figure that nobody measured, or a time that has not come. */
  readonly mayBeNull: boolean;
  /** As it stands in SQL. */
  readonly byDefault: string | null;
}

export interface Table {
  readonly name: string;
  readonly columns: Readonly<Record<string, Column>>;
  /** Besides a serial `id`, which is the key where there is one. */
  readonly key: readonly string[] | null;
  readonly unique: readonly (readonly string[])[];
  readonly references: readonly { readonly column: string; readonly to: string; readonly cascades: boolean }[];
  readonly indexes: Readonly<Record<string, readonly string[]>>;
}

const column = (type: Type, byDefault: string | null = null): Column => ({ type, mayBeNull: false, byDefault });
const maybe = (type: Type): Column => ({ type, mayBeNull: true, byDefault: null });
const serial = column("serial");
const name = column({ varchar: 255 });
const word = (length: number) => ({ varchar: length });
const NOW = "CURRENT_TIMESTAMP";
const created = column("time", NOW);

function table(
  tableName: string,
  columns: Table["columns"],
  more: Partial<Pick<Table, "key" | "unique" | "references" | "indexes">> = {},
): Table {
  return { name: tableName, columns, key: null, unique: [], references: [], indexes: {}, ...more };
}

const GPU_NODES = table(
  "gpu_nodes",
  {
    id: serial,
    node_id: name,
    node_name: name,
    node_ip: maybe(word(45)),
    gpu_type: maybe(word(100)),
    gpu_count: column("integer"),
    gpu_memory_gb: maybe("integer"),
    cpu_cores: maybe("integer"),
    memory_gb: maybe("integer"),
    storage_gb: maybe("integer"),
    gpus_allocated: column("integer", "0"),
    cpu_allocated: maybe("float"),
    memory_allocated_gb: maybe("float"),
    status: column(word(50), "'ready'"),
    is_schedulable: column("boolean", "true"),
    labels: maybe("json"),
    annotations: maybe("json"),
    created_at: created,
    updated_at: maybe("time"),
    last_heartbeat: maybe("time"),
    cluster: maybe(word(255)),
  },
  { unique: [["node_id"]] },
);

const DEPLOYMENTS = table(
  "deployments",
  {
    id: serial,
    deployment_id: name,
    deployment_name: name,
    tenant_id: name,
    model_id: name,
    model_name: name,
    engine_type: column(word(50), "'vllm'"),
    replicas: column("integer", "1"),
    desired_replicas: column("integer", "1"),
    current_replicas: column("integer", "0"),
    gpu_per_replica: column("integer", "1"),
    cpu_request: maybe("float"),
    cpu_limit: maybe("float"),
    memory_request_gb: maybe("float"),
    memory_limit_gb: maybe("float"),
    model_path: maybe(word(500)),
    model_params: maybe("json"),
    vllm_config: maybe("json"),
    status: column(word(50), "'pending'"),
    ready_replicas: column("integer", "0"),
    available_replicas: column("integer", "0"),
    internal_endpoint: maybe(word(500)),
    external_endpoint: maybe(word(500)),
    labels: maybe("json"),
    annotations: maybe("json"),
    error_message: maybe("text"),
    last_health_check: maybe("time"),
    health_check_failures: column("integer", "0"),
    created_at: created,
    updated_at: maybe("time"),
    deployed_at: maybe("time"),
    terminated_at: maybe("time"),
    namespace: maybe(word(255)),
    cluster: maybe(word(255)),
    uid: maybe(word(255)),
    generation: maybe("bigint"),
    qos_class: maybe(word(50)),
    min_replicas: maybe("integer"),
    max_replicas: maybe("integer"),
    target_gpu_utilization: maybe("float"),
    spec: maybe("json"),
  },
  {
    unique: [["deployment_id"]],
    indexes: { idx_deployments_tenant: ["tenant_id"], idx_deployments_status: ["status"] },
  },
);

const POD_ALLOCATIONS = table(
  "pod_allocations",
  {
    id: serial,
    allocation_id: name,
    deployment_id: name,
    deployment_name: name,
    model_id: name,
    tenant_id: name,
    pod_name: name,
    pod_uid: maybe(word(255)),
    namespace: name,
    pod_ip: maybe(word(45)),
    node_id: maybe(word(255)),
    gpu_count: column("integer", "1"),
    gpu_indices: maybe("json"),
    cpu_request: maybe("float"),
    cpu_limit: maybe("float"),
    memory_request_gb: maybe("float"),
    memory_limit_gb: maybe("float"),
    service_name: maybe(word(255)),
    service_port: maybe("integer"),
    node_port: maybe("integer"),
    status: column(word(50), "'pending'"),
    is_ready: column("boolean", "false"),
    restart_count: column("integer", "0"),
    container_image: maybe(word(500)),
    environment_vars: maybe("json"),
    model_config: maybe("json"),
    gpu_utilization_percent: maybe("float"),
    memory_utilization_percent: maybe("float"),
    cpu_utilization_percent: maybe("float"),
    request_count: maybe("bigint"),
    error_count: maybe("bigint"),
    created_at: created,
    started_at: maybe("time"),
    terminated_at: maybe("time"),
    updated_at: maybe("time"),
    cluster: maybe(word(255)),
    terminated_reason: maybe("text"),
  },
  {
    unique: [["allocation_id"], ["pod_uid"], ["pod_name", "namespace"]],
    references: [
      { column: "deployment_id", to: "deployments", cascades: true },
      { column: "node_id", to: "gpu_nodes", cascades: false },
    ],
    indexes: {
      idx_pod_allocations_deployment: ["deployment_id"],
      idx_pod_allocations_tenant: ["tenant_id"],
      idx_pod_allocations_model: ["model_id"],
      idx_pod_allocations_status: ["status"],
    },
  },
);

const SCALING_EVENTS = table(
  "scaling_events",
  {
    id: serial,
    event_id: name,
    deployment_id: name,
    tenant_id: name,
    scaling_type: column(word(50)),
    from_replicas: column("integer"),
    to_replicas: column("integer"),
    trigger_reason: maybe("text"),
    trigger_metrics: maybe("json"),
    status: column(word(50), "'in_progress'"),
    error_message: maybe("text"),
    initiated_at: created,
    completed_at: maybe("time"),
  },
  {
    unique: [["event_id"]],
    references: [{ column: "deployment_id", to: "deployments", cascades: true }],
    indexes: { idx_scaling_events_deployment: ["deployment_id"] },
  },
);

const DEPLOYMENT_EVENTS = table(
  "deployment_events",
  {
    id: serial,
    event_id: name,
    deployment_id: name,
    at: column("time"),
    type: name,
    reason: column("text"),
    message: column("text"),
  },
  {
    unique: [["event_id"]],
    indexes: { idx_deployment_events_deployment: ["deployment_id"], idx_deployment_events_at: ["at"] },
  },
);

const AUDIT = table(
  "audit",
  {
    id: serial,
    event_id: name,
    at: column("time"),
    principal: maybe(word(255)),
    address: maybe(word(255)),
    action: name,
    object: maybe("text"),
    result: name,
    reason: maybe("text"),
    request_id: maybe(word(255)),
    count: column("integer", "1"),
  },
  { unique: [["event_id"]], indexes: { idx_audit_at: ["at"] } },
);

/** The truth on one host: objects as Kubernetes would keep them. `version` is their resourceVersion. */
const OBJECTS = table(
  "objects",
  {
    kind: name,
    namespace: name,
    name,
    uid: name,
    version: column("bigint"),
    metadata: column("json"),
    spec: column("json"),
    status: column("json"),
  },
  { key: ["kind", "namespace", "name"], indexes: { idx_objects_version: ["version"] } },
);

/** One row: the last version that was given. */
const VERSIONS = table("versions", { one: column("integer"), last: column("bigint") }, { key: ["one"] });

/** Of calls that made a deployment, with it in one transaction. `at` is in ms. */
const IDEMPOTENCY_KEYS = table(
  "idempotency_keys",
  { principal: name, key: name, fingerprint: column("text"), at: column("bigint"), id: name },
  { key: ["principal", "key"], indexes: { idempotency_keys_by_age: ["at"] } },
);

/** Those that others refer to come first. */
export const TABLES: readonly Table[] = [
  GPU_NODES,
  DEPLOYMENTS,
  POD_ALLOCATIONS,
  SCALING_EVENTS,
  DEPLOYMENT_EVENTS,
  AUDIT,
  OBJECTS,
  VERSIONS,
  IDEMPOTENCY_KEYS,
];

const SQLITE_TYPES = {
  serial: "INTEGER",
  text: "TEXT",
  integer: "INTEGER",
  bigint: "INTEGER",
  float: "REAL",
  boolean: "INTEGER",
  json: "TEXT",
  time: "TEXT",
} as const;

const POSTGRES_TYPES = {
  serial: "SERIAL",
  text: "TEXT",
  integer: "INTEGER",
  bigint: "BIGINT",
  float: "DOUBLE PRECISION",
  boolean: "BOOLEAN",
  json: "JSON",
  time: "TIMESTAMP",
} as const;

export function typeIn(dialect: Dialect, type: Type): string {
  if (typeof type === "object") return dialect === "sqlite" ? "TEXT" : `VARCHAR(${type.varchar})`;
  return (dialect === "sqlite" ? SQLITE_TYPES : POSTGRES_TYPES)[type];
}

/** Quoted: `key` and `at` are words of SQL. */
export const quoted = (identifier: string): string => `"${identifier}"`;
const list = (names: readonly string[]) => names.map(quoted).join(", ");

export function columnIn(dialect: Dialect, columnName: string, { type, mayBeNull, byDefault }: Column): string {
  const key = type === "serial" ? " PRIMARY KEY" : mayBeNull ? "" : " NOT NULL";
  return `${quoted(columnName)} ${typeIn(dialect, type)}${key}${byDefault === null ? "" : ` DEFAULT ${byDefault}`}`;
}

/** What makes it, and its indexes. */
export function creating(
  dialect: Dialect,
  { name: tableName, columns, key, unique, references, indexes }: Table,
): string[] {
  const lines = [
    ...Object.entries(columns).map(([columnName, of]) => columnIn(dialect, columnName, of)),
    ...(key === null ? [] : [`PRIMARY KEY (${list(key)})`]),
    ...unique.map((of) => `UNIQUE (${list(of)})`),
    ...references.map(
      ({ column: from, to, cascades }) =>
        `FOREIGN KEY (${quoted(from)}) REFERENCES ${to} (${quoted(from)})${cascades ? " ON DELETE CASCADE" : ""}`,
    ),
  ];
  const strict = dialect === "sqlite" ? " STRICT" : "";
  return [
    `CREATE TABLE ${tableName} (\n  ${lines.join(",\n  ")}\n)${strict}`,
    ...Object.entries(indexes).map(
      ([index, of]) => `CREATE INDEX IF NOT EXISTS ${index} ON ${tableName} (${list(of)})`,
    ),
  ];
}
