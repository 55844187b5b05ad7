/** What services and principals have reserved, and what of it was used. */
import { useState } from "preact/hooks";
import type { Amount, Usage as UsageAnswer } from "../api/answers.ts";
import { hours } from "../model/amounts.ts";
import { pure, useFetched } from "./context.tsx";
import { Choice, Section } from "./small.tsx";

const HOUR = 3_600_000;
const PERIODS = { "24 h": 24 * HOUR, "7 d": 168 * HOUR, "30 d": 720 * HOUR } as const;
type Period = keyof typeof PERIODS;
const PERIOD_NAMES = Object.keys(PERIODS) as Period[];
const ROWS = 12;

export const Usage = pure(function Usage({ revision }: { readonly revision: number }) {
  const [by, setBy] = useState<"services" | "principals">("services");
  const [period, setPeriod] = useState<Period>("24 h");
  const from = Math.floor(Date.now() / 300_000) * 300_000 - PERIODS[period];
  const { value, problem } = useFetched<UsageAnswer>(`/gpu/usage?from=${new Date(from).toISOString()}`, revision);
  const rows = value === null ? [] : value[by].toSorted((a, b) => b.reserved_gpu_hours - a.reserved_gpu_hours);
  const most = rows[0]?.reserved_gpu_hours ?? 0;
  const tools = (
    <>
      <Choice label="By whom" of={["services", "principals"]} taken={by} onTake={setBy} />
      <Choice label="How far back" of={PERIOD_NAMES} taken={period} onTake={setPeriod} />
    </>
  );
  return (
    <Section id="usage" title="Usage" note="GPU-hours" tools={tools}>
      {problem === null ? null : <p class="problem">{problem}</p>}
      {value !== null && rows.length === 0 ? <p class="empty">Nobody has held a GPU in that time.</p> : null}
      <ul class="usage">
        {rows.slice(0, ROWS).map((row) => (
          <Row key={row.name} row={row} most={most} />
        ))}
      </ul>
      {rows.length > ROWS ? <p class="empty">and {rows.length - ROWS} more, in GET /gpu/usage</p> : null}
      {rows.length === 0 ? null : (
        <p class="legend">
          <span>
            <i class="used" /> used
          </span>
          <span>
            <i class="reserved" /> reserved
          </span>
        </p>
      )}
    </Section>
  );
});

function Row({ row, most }: { readonly row: Amount & { readonly name: string }; readonly most: number }) {
  const part = (value: number) => `${most === 0 ? 0 : (value / most) * 100}%`;
  return (
    <li>
      <span class="who" title={row.name}>
        {row.name}
      </span>
      <span class="double" aria-hidden="true">
        <i style={{ width: part(row.reserved_gpu_hours) }} />
        <i style={{ width: part(row.used_gpu_hours) }} />
      </span>
      <span class="number">
        {hours(row.used_gpu_hours)} <small>of {hours(row.reserved_gpu_hours)}</small>
      </span>
    </li>
  );
}
