/** What the page reads of the API's answers, by the client's own types; the parts that have a name here are named. */
import type {
  Allocation,
  Deliveries,
  Gpu,
  Granted,
  History,
  List,
  Me,
  Plan,
  Queued,
  Quotas,
  Reservations,
  Usage,
  Windows,
} from "../../client/types.ts";

export type { Allocation, Gpu, History, List, Me, Plan, Reading, Usage } from "../../client/types.ts";
export type {
  RunLine,
  RunRecord as Run,
  TaskLine as Task,
  WorkloadLine as Workload,
  WorkOverview as Work,
} from "../../client/work.ts";

export type GpuState = Gpu["state"];
/** What can be wrong with a GPU that is held. */
export type Ailment = NonNullable<Gpu["ailment"]>["state"];
export type Holder = Gpu["holders"][number];
export type MigDevice = Gpu["mig_devices"][number];
/** What an allocate is answered: granted, or waiting. */
export type Allocated = Granted | Queued;
/** An offer or a lease, as the list has it. */
export type Lease = Allocation;
export type Waiting = List["queue"][number];
export type GpuReason = Plan["gpus"][number];
export type Role = Me["role"];
export type Amount = Usage["total"];
export type Delivery = Deliveries["deliveries"][number];
export type Quota = Quotas["accounts"][number];
/** What a GPU was for a while. */
export type Span = History["gpus"][number]["spans"][number];
export type Reservation = Reservations["reservations"][number];
export type Window = Windows["windows"][number];
