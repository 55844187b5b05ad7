/** The queue: who is next, how long each has waited, when it can expect to be granted, and why not now. */
import { useState } from "preact/hooks";
import type { GpuReason, Waiting } from "../api/answers.ts";
import { count, gib, indices } from "../model/amounts.ts";
import { deeds } from "../model/deeds.ts";
import { matching } from "../model/host.ts";
import { may } from "../model/rights.ts";
import { expected } from "../model/time.ts";
import { pure, useFetched, useTold, useTools } from "./context.tsx";
import { Icon } from "./icons.tsx";
import { Age, Of, Section } from "./small.tsx";

/** Rows that are shown before somebody asks for all. */
const FIRST = 25;

export const Queue = pure(function Queue({
  queue,
  revision,
}: {
  readonly queue: readonly Waiting[];
  readonly revision: number;
}) {
  const [search, setSearch] = useState("");
  const [isWhole, setWhole] = useState(false);
  const found = matching(queue, search);
  const shown = isWhole ? found : found.slice(0, FIRST);
  const horizon = horizonOf(shown);
  const tools =
    queue.length > 8 ? (
      <input
        type="search"
        aria-label="Search the queue"
        placeholder="Search"
        value={search}
        onInput={(event) => setSearch(event.currentTarget.value)}
      />
    ) : undefined;
  return (
    <Section id="queue" title="Queue" note={queue.length === 0 ? undefined : `${queue.length} waiting`} tools={tools}>
      {queue.length === 0 ? <p class="empty">Nobody waits.</p> : null}
      {shown.length === 0 ? null : (
        <div class="scroll">
          <table class="queue">
            <thead>
              <tr>
                <th scope="col" class="number">
                  <abbr title="Position">#</abbr>
                </th>
                <th scope="col">service</th>
                <th scope="col">asks for</th>
                <th scope="col" class="number">
                  priority
                </th>
                <th scope="col">waited</th>
                <th scope="col">expected</th>
                <th scope="col">why not now</th>
                <th scope="col">
                  <span class="unseen">What can be done</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((one) => (
                <Row key={one.id} {...{ one, horizon, revision }} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {found.length > shown.length ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {found.length}
        </button>
      ) : null}
      {search !== "" && found.length === 0 ? <p class="empty">Nobody who waits is meant by that.</p> : null}
    </Section>
  );
});

/** The end of the time line that estimates are drawn on: the latest of those shown. */
function horizonOf(queue: readonly Waiting[]): number {
  return Math.max(0, ...queue.flatMap(({ eta }) => (eta === null ? [] : [Date.parse(eta.latest)])));
}

interface RowFacts {
  readonly one: Waiting;
  readonly horizon: number;
  readonly revision: number;
}

function Row({ one, horizon, revision }: RowFacts) {
  const { me, propose } = useTools();
  const [isOpen, setOpen] = useState(false);
  const isOwn = me.keyed && me.allocations.includes(one.id);
  return (
    <>
      <tr class={isOwn ? "own" : ""}>
        <td class="number" data-label="position">
          {one.position}
        </td>
        <th scope="row" class="who" title={one.id}>
          {one.service_name}
          {isOwn ? <small> yours</small> : null}
        </th>
        <td data-label="asks for">
          {one.required_gpus} × {gib(one.min_memory_mb)} GiB
        </td>
        <td class="number" data-label="priority">
          {one.priority}
        </td>
        <td data-label="waited">
          <Age at={one.submitted_at} />
        </td>
        <td class="expected" data-label="expected">
          <Expected {...{ one, horizon }} />
        </td>
        <td class="wide reason" data-label="why not now">
          {one.reason}
        </td>
        <td class="deeds">
          {isOwn ? (
            <button type="button" class="quiet" onClick={() => propose(deeds.release(one.id, one.service_name, false))}>
              Cancel
              <Of name={one.service_name} />
            </button>
          ) : may(me.role, "admin") ? (
            <button type="button" class="quiet" onClick={() => propose(deeds.revoke(one.id, one.service_name))}>
              Revoke
              <Of name={one.service_name} />
            </button>
          ) : null}
          <button
            type="button"
            class="quiet"
            aria-expanded={isOpen}
            aria-label={`Per GPU, why ${one.service_name} waits`}
            onClick={() => setOpen(!isOpen)}
          >
            <Icon name="down" />
          </button>
        </td>
      </tr>
      {isOpen ? <PerGpu {...{ one, revision }} /> : null}
    </>
  );
}

function Expected({ one, horizon }: { readonly one: Waiting; readonly horizon: number }) {
  const { eta } = one;
  const text = useTold((now) =>
    eta === null ? "no telling" : expected(Date.parse(eta.earliest), Date.parse(eta.latest), now),
  );
  if (eta === null) return <span class="faint">{text}</span>;
  const now = Date.now();
  const at = (time: string) => Math.min(1, Math.max(0, (Date.parse(time) - now) / Math.max(1, horizon - now)));
  const [from, to] = [at(eta.earliest), at(eta.latest)];
  return (
    <span class="eta">
      {text}
      <span class="range" aria-hidden="true">
        <i style={{ left: `${from * 100}%`, width: `${Math.max(2, (to - from) * 100)}%` }} />
      </span>
    </span>
  );
}

/** Asked of the list of records: a look at the record itself would count as its client's. */
function PerGpu({ one, revision }: Pick<RowFacts, "one" | "revision">) {
  const path = `/gpu/allocations?status=queued&service_name=${encodeURIComponent(one.service_name)}&limit=1000`;
  const { value, problem } = useFetched<{ allocations: { id: string; gpus?: GpuReason[] }[] }>(path, revision);
  const gpus = value?.allocations.find(({ id }) => id === one.id)?.gpus;
  return (
    <tr class="per-gpu">
      <td />
      <td colSpan={7}>
        {problem}
        {gpus === undefined ? null : gpus.length === 0 ? "It is no matter of single GPUs." : <Reasons gpus={gpus} />}
        <small>
          {" "}
          <code>{one.id}</code>
        </small>
      </td>
    </tr>
  );
}

function Reasons({ gpus }: { readonly gpus: readonly GpuReason[] }) {
  const groups = Map.groupBy(gpus, ({ reason }) => reason ?? "would do");
  return (
    <ul class="reasons">
      {[...groups].map(([reason, of]) => (
        <li key={reason}>
          <b>{reason}</b> {count(of.length, "GPU")}
          {of.some(({ id }) => id !== null) ? `: ${indices(of.map(({ id }) => id))}` : ""}
        </li>
      ))}
    </ul>
  );
}
