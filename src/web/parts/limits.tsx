/** Quotas and reserved windows: what may be had, and when. */
import type { Quota, Reservation, Window } from "../api/answers.ts";
import { count, hours } from "../model/amounts.ts";
import { clock, lasting } from "../model/time.ts";
import { pure, useFetched } from "./context.tsx";
import { Bar, Section } from "./small.tsx";

export const Limits = pure(function Limits({ revision }: { readonly revision: number }) {
  const quotas = useFetched<{ accounts: Quota[] }>("/gpu/quotas", revision);
  const windows = useFetched<{ windows: Window[] }>("/gpu/windows", revision);
  const booked = useFetched<{ reservations: Reservation[] }>("/gpu/reservations", revision);
  const problem = quotas.problem ?? windows.problem ?? booked.problem;
  const limited = quotas.value?.accounts.filter(isLimited);
  return (
    <Section id="limits" title="Quotas, windows and reservations">
      {problem === null ? null : <p class="problem">{problem}</p>}
      {limited?.length === 0 ? <p class="empty">No quota is set.</p> : null}
      <ul class="quotas">
        {limited?.map((quota) => (
          <QuotaRow key={`${quota.kind} ${quota.name}`} quota={quota} />
        ))}
      </ul>
      {windows.value?.windows.length === 0 ? <p class="empty">No window is reserved.</p> : null}
      <ul class="windows">
        {windows.value?.windows.map((one) => (
          <WindowRow key={one.name} one={one} />
        ))}
        {booked.value?.reservations.map((one) => (
          <ReservationRow key={one.id} one={one} />
        ))}
      </ul>
    </Section>
  );
});

function isLimited({ gpus, queued, max_priority, gpu_hours }: Quota): boolean {
  return gpus !== null || queued !== null || max_priority !== null || gpu_hours !== null;
}

function QuotaRow({ quota }: { readonly quota: Quota }) {
  const { gpus, queued, gpu_hours, max_priority } = quota;
  return (
    <li>
      <span class="who" title={quota.name}>
        {quota.name} <small>{quota.kind}</small>
      </span>
      {gpus === null ? null : <Meter name="GPUs" used={gpus.used} limit={gpus.limit} />}
      {queued === null ? null : <Meter name="waiting" used={queued.used} limit={queued.limit} />}
      {gpu_hours === null ? null : (
        <Meter
          name={`GPU-hours in ${lasting(gpu_hours.period_seconds * 1_000)}`}
          used={gpu_hours.used}
          limit={gpu_hours.limit}
          text={hours}
        />
      )}
      {max_priority === null ? null : <span class="meter">priority at most {max_priority}</span>}
    </li>
  );
}

interface MeterFacts {
  readonly name: string;
  readonly used: number | null;
  readonly limit: number;
  readonly text?: (value: number) => string;
}

function Meter({ name, used, limit, text = String }: MeterFacts) {
  const part = used === null || limit === 0 ? null : Math.min(1, used / limit);
  return (
    <span class="meter">
      {name} {used === null ? "being counted" : `${text(used)} of ${text(limit)}`}
      <Bar part={part} label={name} tone={part === 1 ? "full" : ""} />
    </span>
  );
}

function WindowRow({ one }: { readonly one: Window }) {
  const [next] = one.occurrences;
  const now = Date.now();
  return (
    <li>
      <span class="who" title={`${one.schedule} ${one.time_zone}`}>
        {one.name}
      </span>
      <span>{one.gpus === null ? count(one.gpu_uuids?.length ?? 0, "named GPU") : count(one.gpus, "GPU")}</span>
      <span class="faint">{forWhom(one)}</span>
      <span class={`state ${one.open ? "tone-held" : "tone-off"}`}>
        {next === undefined
          ? "not within a week"
          : `${one.open ? "open until" : "opens"} ${clock(Date.parse(one.open ? next.to : next.from), now)}`}
      </span>
    </li>
  );
}

function ReservationRow({ one }: { readonly one: Reservation }) {
  const now = Date.now();
  const whose = [one.principal, one.service_name].filter(Boolean).join(", ");
  return (
    <li>
      <span class="who" title={one.id}>
        reservation
      </span>
      <span>{one.gpus === null ? count(one.gpu_uuids?.length ?? 0, "named GPU") : count(one.gpus, "GPU")}</span>
      <span class="faint">{whose === "" ? "" : `for ${whose}`}</span>
      <span class={`state ${one.open ? "tone-held" : "tone-off"}`}>
        {one.open ? "open until" : "from"} {clock(Date.parse(one.open ? one.to : one.from), now)}
      </span>
    </li>
  );
}

function forWhom({ for: rules }: Window): string {
  const names = rules.flatMap(({ services, principals, workload_types }) => [
    ...services,
    ...principals,
    ...workload_types,
  ]);
  return `for ${[...new Set(names)].join(", ")}`;
}
