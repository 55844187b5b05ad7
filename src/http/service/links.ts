/** Which calls of the daemon's API take what another answers. */
import type { LinkSource } from "../exchange/links.ts";

const OF_LEASES = ["renewAllocation", "extendAllocation", "nudgeHolder", "revokeAllocation", "endAllocation"];
const OF_RECORDS = ["readAllocation", "explainAllocation"];

export const LINKS: readonly LinkSource[] = [
  { from: "listAllocations", at: "/allocations/0/id", to: OF_RECORDS },
  { from: "list", at: "/allocations/0/id", to: [...OF_RECORDS, ...OF_LEASES] },
  { from: "adoptUse", at: "/id", to: [...OF_RECORDS, ...OF_LEASES] },
  { from: "allocate", at: "/id", to: [...OF_RECORDS, ...OF_LEASES] },
  { from: "listReservations", at: "/reservations/0/id", to: ["cancelReservation"] },
  { from: "reserve", at: "/id", to: ["cancelReservation"] },
  { from: "listDeliveries", at: "/deliveries/0/id", to: ["redeliver"] },
  { from: "createKey", at: "/id", to: ["revokeKey"] },
];
