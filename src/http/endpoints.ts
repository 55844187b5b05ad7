/** The API's routes: what each asks of its caller, and what it answers. */
import {
  adoption,
  allocation,
  extension,
  nudging,
  record,
  records,
  release,
  removal,
  renewal,
  revocation,
} from "./allocations/routes.ts";
import { why } from "./allocations/why.ts";
import { audit } from "./audit/audit.ts";
import { deliveries, redelivery, testing } from "./deliveries/routes.ts";
import { events } from "./events/stream.ts";
import { KEY_ID } from "./exchange/auth.ts";
import { docsEndpoints } from "./exchange/docs-page.ts";
import { type Endpoint, endpoint } from "./exchange/endpoint.ts";
import { governance, gpuDrain, gpuRemoval } from "./gpus/routes.ts";
import { gpuWhy } from "./gpus/why.ts";
import { history } from "./history/history.ts";
import { hostDrain, hostUndrain, list, status } from "./host/routes.ts";
import { creation, listing, revoking } from "./keys/keys.ts";
import { forgetting, learned } from "./learned/routes.ts";
import type { EndpointParts } from "./parts.ts";
import { plan, workload } from "./planning/routes.ts";
import { quotas } from "./quotas/quotas.ts";
import { readings } from "./readings/stream.ts";
import { PROBLEMS } from "./refusals.ts";
import { reservationEnd, reservations, reserving } from "./reservations/reservations.ts";
import { me } from "./service/me.ts";
import { pageEndpoints } from "./service/page.ts";
import { alive, metrics, openapi, ready } from "./service/routes.ts";
import { usage } from "./usage/usage.ts";
import { windows } from "./windows/windows.ts";

/** The busiest first: express tries them in this order. */
export function endpointsOf(parts: EndpointParts): readonly Endpoint[] {
  return [
    endpoint("/gpu/allocate", "key", { POST: allocation(parts) }),
    endpoint("/gpu/release", "key", { POST: release(parts) }),
    endpoint("/gpu/allocations/:id/renew", "key", { POST: renewal(parts) }),
    endpoint("/gpu/allocations/:id", "key", { GET: record(parts), DELETE: removal(parts) }),
    endpoint("/gpu/status", "key", { GET: status(parts) }),
    endpoint("/gpu/list", "key", { GET: list(parts) }),
    endpoint("/gpu/workload", "key", { POST: workload(parts) }),
    endpoint("/gpu/plan", "key", { POST: plan(parts) }),
    endpoint("/gpu/allocations", "key", { GET: records(parts) }),
    endpoint("/gpu/events", "key", { GET: events(parts) }),
    endpoint("/gpu/readings", "key", { GET: readings(parts.readings) }),
    endpoint("/gpu/history", "key", { GET: history(parts) }),
    endpoint("/gpu/me", "key", { GET: me(parts) }),
    endpoint("/gpu/allocations/:id/revoke", "key", { POST: revocation(parts) }),
    endpoint("/gpu/allocations/:id/extend", "key", { POST: extension(parts) }),
    endpoint("/gpu/allocations/:id/nudge", "key", { POST: nudging(parts) }),
    endpoint("/gpu/allocations/:id/why", "key", { GET: why(parts) }),
    endpoint("/gpu/gpus/:id/why", "key", { GET: gpuWhy(parts) }),
    endpoint("/gpu/gpus/:id", "key", { DELETE: gpuRemoval(parts) }),
    endpoint("/gpu/gpus/:id/cordon", "key", { POST: governance(parts, "cordon") }),
    endpoint("/gpu/gpus/:id/uncordon", "key", { POST: governance(parts, "uncordon") }),
    endpoint("/gpu/gpus/:id/adopt", "key", { POST: adoption(parts) }),
    endpoint("/gpu/gpus/:id/drain", "key", { POST: gpuDrain(parts) }),
    endpoint("/gpu/drain", "key", { POST: hostDrain(parts) }),
    endpoint("/gpu/undrain", "key", { POST: hostUndrain(parts) }),
    endpoint("/gpu/gpus/:id/clear-quarantine", "key", { POST: governance(parts, "clear-quarantine") }),
    endpoint("/gpu/webhooks/deliveries", "key", { GET: deliveries(parts) }),
    endpoint("/gpu/webhooks/test", "key", { POST: testing(parts) }),
    endpoint("/gpu/webhooks/deliveries/:id/redeliver", "key", { POST: redelivery(parts) }),
    endpoint("/gpu/audit", "key", { GET: audit(parts) }),
    endpoint("/gpu/keys", "key", { GET: listing(parts), POST: creation(parts) }),
    endpoint("/gpu/keys/:id", "key", { DELETE: revoking(parts) }, { idForm: KEY_ID }),
    endpoint("/gpu/reservations", "key", { GET: reservations(parts), POST: reserving(parts) }),
    endpoint("/gpu/reservations/:id", "key", { DELETE: reservationEnd(parts) }),
    endpoint("/gpu/windows", "key", { GET: windows(parts.scheduler) }),
    endpoint("/gpu/usage", "key", { GET: usage(parts.scheduler) }),
    endpoint("/gpu/quotas", "key", { GET: quotas(parts.scheduler) }),
    endpoint("/gpu/learned", "key", { GET: learned(parts), DELETE: forgetting(parts) }),
    endpoint("/healthz", "probe", { GET: alive }),
    endpoint("/livez", "probe", { GET: alive }),
    endpoint("/readyz", "probe", { GET: ready(parts) }),
    ...(parts.metrics === null ? [] : [endpoint("/metrics", "open", { GET: metrics(parts.metrics) })]),
    endpoint("/openapi.json", "open", { GET: openapi(parts) }),
    ...docsEndpoints({ ...PROBLEMS, ...parts.workProblems }),
    ...pageEndpoints(),
  ];
}
