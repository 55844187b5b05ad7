/** The leases: who holds what, since when, until when, and which of them nobody uses. */
import type { Lease } from "../api/answers.ts";
import { count, gib, indices } from "../model/amounts.ts";
import { deeds } from "../model/deeds.ts";
import { byEnd, endOf } from "../model/host.ts";
import { may } from "../model/rights.ts";
import { pure, useTools } from "./context.tsx";
import { ShapeIcon } from "./icons.tsx";
import { Age, LeaseLeft, Left, Of, Section } from "./small.tsx";

export const Leases = pure(function Leases({
  leases,
  isWithin,
}: {
  readonly leases: readonly Lease[];
  readonly isWithin?: true;
}) {
  const idle = leases.filter(({ idle_since }) => idle_since !== undefined).length;
  const table =
    leases.length === 0 ? (
      <p class="empty">Nobody holds a GPU.</p>
    ) : (
      <div class="scroll">
        <table class="leases">
          {isWithin === true ? <caption>Leases</caption> : null}
          <thead>
            <tr>
              <th scope="col">service</th>
              <th scope="col">GPUs</th>
              <th scope="col">held</th>
              <th scope="col">ends</th>
              <th scope="col" class="number">
                priority
              </th>
              <th scope="col">remarks</th>
              <th scope="col">
                <span class="unseen">What can be done</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {byEnd(leases).map((lease) => (
              <Row key={lease.id} lease={lease} isWithin={isWithin} />
            ))}
          </tbody>
        </table>
      </div>
    );
  if (isWithin === true) return table;
  const note =
    leases.length === 0 ? undefined : `${count(leases.length, "lease")}${idle === 0 ? "" : `, ${idle} idle`}`;
  return (
    <Section id="leases" title="Leases" note={note}>
      {table}
    </Section>
  );
});

function Row({ lease, isWithin }: { readonly lease: Lease; readonly isWithin: true | undefined }) {
  const { me, propose } = useTools();
  const isOwn = me.keyed && me.allocations.includes(lease.id);
  return (
    <tr class={isOwn ? "own" : ""} id={isWithin === true ? undefined : `lease-${lease.id}`}>
      <th scope="row" class="who" title={lease.id}>
        {lease.service_name}
        {isOwn ? <small> yours</small> : null}
      </th>
      <td data-label="GPUs">{whatOf(lease)}</td>
      <td data-label="held">{lease.allocated_at === undefined ? "–" : <Age at={lease.allocated_at} />}</td>
      <td data-label="ends">
        <LeaseLeft end={endOf(lease)} />
      </td>
      <td class="number" data-label="priority">
        {lease.priority}
      </td>
      <td class="wide remarks" data-label="remarks">
        <Remarks lease={lease} />
      </td>
      <td class="deeds">
        {isOwn ? (
          <button
            type="button"
            class="quiet"
            onClick={() => propose(deeds.release(lease.id, lease.service_name, true))}
          >
            Release
            <Of name={lease.service_name} />
          </button>
        ) : null}
        {may(me.role, "admin") && !isOwn ? (
          <button type="button" class="quiet" onClick={() => propose(deeds.revoke(lease.id, lease.service_name))}>
            Revoke
            <Of name={lease.service_name} />
          </button>
        ) : null}
      </td>
    </tr>
  );
}

function whatOf({ gpu_ids = [], devices = [], sharing, memory_mb }: Lease): string {
  const parts = devices.filter(({ mig }) => mig !== null).length;
  const which = indices([...new Set(gpu_ids)]) || count(devices.length, "GPU");
  if (parts > 0) return `${count(parts, "MIG instance")} of ${which}`;
  return sharing === "shared" ? `${gib(memory_mb ?? null)} GiB of ${which}` : which;
}

/** What is out of the ordinary about a lease. */
function Remarks({ lease }: { readonly lease: Lease }) {
  const { notice, nudge } = lease;
  return (
    <>
      {lease.status === "offered" ? (
        <span class="state tone-wait">
          <ShapeIcon shape="dashes" />
          offered, to be taken
        </span>
      ) : null}
      {lease.idle_since === undefined ? null : (
        <span class="state tone-wait">
          <ShapeIcon shape="moon" />
          idle <Age at={lease.idle_since} />
        </span>
      )}
      {notice === undefined ? null : (
        <span class="state tone-wait" title={notice.detail}>
          <ShapeIcon shape="half" />
          {notice.reason === "drained" ? "drained" : "must make room"}: <Left until={Date.parse(notice.leave_by)} />
        </span>
      )}
      {nudge === undefined ? null : (
        <span class="nudge">
          <bdi>{nudge.by}</bdi> wrote <Age at={nudge.at} /> ago: <bdi>{nudge.message}</bdi>
        </span>
      )}
      {lease.over_memory_since === undefined ? null : <span class="state tone-wait">over its memory</span>}
      {[...Map.groupBy(lease.ailing_gpus ?? [], ({ state }) => state)].map(([state, gpus]) => (
        <span class="state tone-bad" key={state} title={gpus[0]?.reason}>
          <ShapeIcon shape="triangle" />
          {gpus.length === 1 ? "GPU" : `${gpus.length} GPUs`} {state}
        </span>
      ))}
      {lease.preemptible ? <span class="tag">preemptible</span> : null}
      {lease.adopted === true ? <span class="tag">adopted</span> : null}
    </>
  );
}
