/**
 * A database as the Orchestration Service leaves it, made from what is known of it: its columns, types and keys (times
 * without a zone, JSON, ids of pods' tenants and models as UUIDs, no defaults but for times), and some rows.
 */

const STATE = "status varchar(50) NOT NULL";
const TIMES = "created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp DEFAULT now()";
const LIMITS =
  "cpu_request float NOT NULL, cpu_limit float NOT NULL, memory_request_gb float NOT NULL, memory_limit_gb float NOT NULL";
export const TENANT = "0b5e7c9a-3a53-4be4-9f0c-3c56f5f3a111";
export const MODEL = "7d1f7d0e-9c4e-4f6b-8a57-5b1f2a1c2222";

export const SECOND_SEED: readonly string[] = [
  "CREATE SCHEMA orchestration",
  "CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY)",
  "INSERT INTO public.alembic_version VALUES ('afc1841f5aaf')",
  `CREATE TABLE orchestration.gpu_nodes (
    id serial PRIMARY KEY, node_id varchar(255) NOT NULL UNIQUE, node_name varchar(255) NOT NULL,
    node_ip varchar(45) NOT NULL, gpu_type varchar(100) NOT NULL, gpu_count int NOT NULL, gpu_memory_gb int NOT NULL,
    cpu_cores int NOT NULL, memory_gb int NOT NULL, storage_gb int NOT NULL, gpus_allocated int NOT NULL,
    cpu_allocated float NOT NULL, memory_allocated_gb float NOT NULL, ${STATE}, is_schedulable boolean NOT NULL,
    labels json, annotations json, ${TIMES}, last_heartbeat timestamp DEFAULT now())`,
  `CREATE TABLE orchestration.deployments (
    id serial PRIMARY KEY, deployment_id varchar(255) NOT NULL UNIQUE, deployment_name varchar(255) NOT NULL,
    tenant_id varchar(255) NOT NULL, model_id varchar(255) NOT NULL, model_name varchar(255) NOT NULL,
    engine_type varchar(50) NOT NULL, replicas int NOT NULL, desired_replicas int NOT NULL, current_replicas int NOT NULL,
    gpu_per_replica int NOT NULL, ${LIMITS}, model_path varchar(500) NOT NULL, model_params json, vllm_config json, ${STATE},
    ready_replicas int NOT NULL, available_replicas int NOT NULL, internal_endpoint varchar(500),
    external_endpoint varchar(500), labels json, annotations json, error_message text, last_health_check timestamp,
    health_check_failures int NOT NULL, ${TIMES}, deployed_at timestamp, terminated_at timestamp)`,
  `CREATE TABLE orchestration.pod_allocations (
    id serial PRIMARY KEY, allocation_id varchar(255) NOT NULL UNIQUE,
    deployment_id varchar(255) NOT NULL REFERENCES orchestration.deployments (deployment_id) ON DELETE CASCADE,
    deployment_name varchar(255) NOT NULL, model_id uuid NOT NULL, tenant_id uuid NOT NULL, pod_name varchar(255) NOT NULL,
    pod_uid varchar(255) UNIQUE, namespace varchar(255) NOT NULL, pod_ip varchar(45),
    node_id varchar(255) NOT NULL REFERENCES orchestration.gpu_nodes (node_id), gpu_count int NOT NULL, gpu_indices json,
    ${LIMITS}, service_name varchar(255), service_port int, node_port int, ${STATE}, is_ready boolean NOT NULL,
    restart_count int NOT NULL, container_image varchar(500) NOT NULL, environment_vars json, model_config json,
    gpu_utilization_percent float, memory_utilization_percent float, cpu_utilization_percent float,
    request_count bigint, error_count bigint, started_at timestamp, terminated_at timestamp, ${TIMES},
    CONSTRAINT _pod_namespace_uc UNIQUE (pod_name, namespace))`,
  "CREATE INDEX idx_pod_allocations_tenant ON orchestration.pod_allocations (tenant_id)",
  "CREATE INDEX idx_pod_allocations_model ON orchestration.pod_allocations (model_id)",
  "CREATE INDEX idx_pod_allocations_status ON orchestration.pod_allocations (status)",
  "CREATE INDEX idx_deployments_tenant ON orchestration.deployments (tenant_id)",
  "CREATE INDEX idx_deployments_status ON orchestration.deployments (status)",
  `INSERT INTO orchestration.gpu_nodes (node_id, node_name, node_ip, gpu_type, gpu_count, gpu_memory_gb, cpu_cores, memory_gb,
    storage_gb, gpus_allocated, cpu_allocated, memory_allocated_gb, status, is_schedulable, labels)
    VALUES ('node-uid', 'node-a', '10.0.0.7', 'H100', 8, 80, 64, 512, 1000, 1, 2, 8, 'ready', true, '{"a":"b"}'),
           ('node-away', 'node-z', '10.0.0.8', 'H100', 8, 80, 64, 512, 1000, 0, 0, 0, 'not_ready', true, '{}')`,
  `INSERT INTO orchestration.deployments (deployment_id, deployment_name, tenant_id, model_id, model_name, engine_type,
    replicas, desired_replicas, current_replicas, gpu_per_replica, cpu_request, cpu_limit, memory_request_gb, memory_limit_gb,
    model_path, vllm_config, status, ready_replicas, available_replicas, health_check_failures)
    VALUES ('vllm-old', 'vllm-old', '${TENANT}', '${MODEL}', 'llama', 'vllm', 1, 1, 1, 1, 2, 4, 8, 8, '/models/llama',
            '{"dtype":"auto"}', 'running', 1, 1, 0)`,
  `INSERT INTO orchestration.deployments (deployment_id, deployment_name, tenant_id, model_id, model_name, engine_type,
    replicas, desired_replicas, current_replicas, gpu_per_replica, cpu_request, cpu_limit, memory_request_gb, memory_limit_gb,
    model_path, status, ready_replicas, available_replicas, health_check_failures, terminated_at)
    VALUES ('vllm-ended', 'vllm-ended', '${TENANT}', '${MODEL}', 'llama', 'vllm', 0, 0, 0, 1, 2, 4, 8, 8, '/models/llama',
            'terminated', 0, 0, 0, '2025-11-20 10:00:00.123456')`,
  `INSERT INTO orchestration.pod_allocations (allocation_id, deployment_id, deployment_name, model_id, tenant_id, pod_name,
    pod_uid, namespace, node_id, gpu_count, gpu_indices, cpu_request, cpu_limit, memory_request_gb, memory_limit_gb, status,
    is_ready, restart_count, container_image, request_count, error_count)
    VALUES ('alloc-1', 'vllm-old', 'vllm-old', '${MODEL}', '${TENANT}', 'vllm-old-1', 'pod-1', 'ai-platform', 'node-uid', 1,
            '[0]', 2, 4, 8, 8, 'running', true, 0, 'vllm:0', 9007199254740993, 0)`,
];

/** What its two files of SQL do, which its users run by hand and again: all of it is "if it is not there yet". */
export const SECOND_SEED_SQL: readonly string[] = [
  "ALTER TABLE orchestration.deployments ADD COLUMN IF NOT EXISTS desired_replicas INTEGER DEFAULT 1",
  "ALTER TABLE orchestration.deployments ADD COLUMN IF NOT EXISTS current_replicas INTEGER DEFAULT 0",
  "UPDATE orchestration.deployments SET desired_replicas = replicas WHERE desired_replicas IS NULL",
  "UPDATE orchestration.deployments SET current_replicas = ready_replicas WHERE current_replicas IS NULL",
  "CREATE INDEX IF NOT EXISTS idx_deployments_desired_replicas ON orchestration.deployments (desired_replicas)",
  "CREATE INDEX IF NOT EXISTS idx_deployments_current_replicas ON orchestration.deployments (current_replicas)",
  "COMMENT ON COLUMN orchestration.deployments.desired_replicas IS 'as many as are wanted'",
  "ALTER TABLE orchestration.deployments ADD COLUMN IF NOT EXISTS error_message TEXT",
  "ALTER TABLE orchestration.deployments ADD COLUMN IF NOT EXISTS last_health_check TIMESTAMP",
  "ALTER TABLE orchestration.deployments ADD COLUMN IF NOT EXISTS health_check_failures INTEGER DEFAULT 0",
  "CREATE INDEX IF NOT EXISTS idx_deployments_health_failures ON orchestration.deployments (health_check_failures)",
];
