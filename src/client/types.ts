/**
 * What the API takes and answers, as types alone: nothing of the schemas, nor of zod, is in the client. The TypeScript
 * SDK is built with a file of the same names in this one's place, made from the OpenAPI document.
 */
import type { z } from "zod";
import type {
  grantedSchema,
  QueuedAnswer,
  recordSchema,
  recordsSchema,
  releasedSchema,
  WhyAnswer,
} from "../wire/allocations/answers.ts";
import type { allocateSchema, workloadSchema } from "../wire/allocations/asks.ts";
import type { auditSchema } from "../wire/audit/answers.ts";
import type { deliveriesSchema, testedSchema } from "../wire/deliveries/answers.ts";
import type { GpuAnswer, GpuWhyAnswer } from "../wire/gpus/answers.ts";
import type { HistoryAnswer } from "../wire/history/answers.ts";
import type { HostDrainAnswer, ListAnswer, StatusAnswer } from "../wire/host/answers.ts";
import type { keysSchema, listedKeySchema, newKeySchema } from "../wire/keys/answers.ts";
import type { PlanAnswer, WorkloadAnswer } from "../wire/planning/answers.ts";
import type { QuotasAnswer } from "../wire/quotas/answers.ts";
import type { ReadingAnswer } from "../wire/readings/answers.ts";
import type { ReservationAnswer, ReservationsAnswer } from "../wire/reservations/answers.ts";
import type { reservationSchema } from "../wire/reservations/asks.ts";
import type { MeAnswer } from "../wire/service/answers.ts";
import type { UsageAnswer } from "../wire/usage/answers.ts";
import type { WindowsAnswer } from "../wire/windows/answers.ts";

export type AllocateBody = z.input<typeof allocateSchema>;
export type WorkloadBody = z.input<typeof workloadSchema>;
export type Granted = z.output<typeof grantedSchema>;
export type Queued = QueuedAnswer;
export type Allocation = z.output<typeof recordSchema>;
export type AllocationPage = z.output<typeof recordsSchema>;
export type Audit = z.output<typeof auditSchema>;
export type Key = z.output<typeof listedKeySchema>;
export type Keys = z.output<typeof keysSchema>;
export type NewKey = z.output<typeof newKeySchema>;
export type Released = z.output<typeof releasedSchema>;
export type Deliveries = z.output<typeof deliveriesSchema>;
export type WebhookTest = z.output<typeof testedSchema>;
export type Why = WhyAnswer;
export type Gpu = GpuAnswer;
export type History = HistoryAnswer;
export type GpuWhy = GpuWhyAnswer;
export type HostDrain = HostDrainAnswer;
export type List = ListAnswer;
export type Status = StatusAnswer;
export type Me = MeAnswer;
export type Plan = PlanAnswer;
export type Reading = ReadingAnswer;
export type WorkloadAnalysis = WorkloadAnswer;
export type Quotas = QuotasAnswer;
export type Reservation = ReservationAnswer;
export type Reservations = ReservationsAnswer;
export type ReservationBody = z.input<typeof reservationSchema>;
export type Usage = UsageAnswer;
export type Windows = WindowsAnswer;
