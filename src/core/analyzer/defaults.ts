import type { WorkloadDefaults, WorkloadType } from "../model/workload.ts";

/**
 * The built-in defaults and thresholds of each workload type: contract section 5. A configuration file overrides them
 * key by key. `largeBatchSize` and `xlargeBatchSize` count whatever the size of that type is: batches, images, nodes.
 */
export const WORKLOAD_DEFAULTS: { readonly [type in WorkloadType]: WorkloadDefaults } = {
  training: {
    defaultGpus: 1,
    defaultMemoryMib: 8_192,
    defaultPriority: 5,
    maxUtilizationPercent: 90,
    largeBatchSize: 64,
    xlargeBatchSize: 128,
    highConcurrency: 10,
    veryHighConcurrency: 20,
  },
  inference: {
    defaultGpus: 1,
    defaultMemoryMib: 4_096,
    defaultPriority: 7,
    maxUtilizationPercent: 80,
    largeBatchSize: 32,
    xlargeBatchSize: 64,
    highConcurrency: 10,
    veryHighConcurrency: 20,
  },
  embedding: {
    defaultGpus: 1,
    defaultMemoryMib: 2_048,
    defaultPriority: 6,
    maxUtilizationPercent: 85,
    largeBatchSize: 32,
    xlargeBatchSize: 64,
    highConcurrency: 10,
    veryHighConcurrency: 20,
  },
  ocr: {
    defaultGpus: 1,
    defaultMemoryMib: 4_096,
    defaultPriority: 6,
    maxUtilizationPercent: 80,
    largeBatchSize: 100,
    xlargeBatchSize: 200,
    highConcurrency: 50,
    veryHighConcurrency: 100,
  },
  graph_processing: {
    defaultGpus: 1,
    defaultMemoryMib: 4_096,
    defaultPriority: 5,
    maxUtilizationPercent: 75,
    largeBatchSize: 1_000_000,
    xlargeBatchSize: 2_000_000,
    highConcurrency: 5,
    veryHighConcurrency: 10,
  },
  generic: {
    defaultGpus: 1,
    defaultMemoryMib: 4_096,
    defaultPriority: 5,
    maxUtilizationPercent: 80,
    largeBatchSize: 50,
    xlargeBatchSize: 100,
    highConcurrency: 10,
    veryHighConcurrency: 20,
  },
};
