/** What the daemon runs: services, tasks, and the runs of both. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { RunLine, Task, Work as WorkAnswer, Workload } from "../api/answers.ts";
import { count, NO_READING } from "../model/amounts.ts";
import { type Deed, deeds } from "../model/deeds.ts";
import { may, mayTouch } from "../model/rights.ts";
import {
  firstTasks,
  gpuNames,
  gpusOf,
  isOpen,
  meant,
  nodesOf,
  replicaLook,
  runLook,
  runText,
  taskLook,
  taskRemark,
  waitingText,
  words,
  workloadLook,
} from "../model/work.ts";
import { pure, useTold, useTools } from "./context.tsx";
import { Icon, Mark } from "./icons.tsx";
import { Age, At, Of, Section } from "./small.tsx";

/** Rows of each kind that are shown before somebody asks for all. */
const FIRST = 12;

type Replica = Workload["status"]["nodes"][number];
type Names = ReadonlyMap<string, string>;

export const Work = pure(function Work({ work, names }: { readonly work: WorkAnswer; readonly names: Names }) {
  const [search, setSearch] = useState("");
  const [isWhole, setWhole] = useState(false);
  const workloads = meant(work.workloads, search);
  const tasks = meant(work.tasks, search);
  const all = workloads.length + tasks.length;
  const few = { workloads: workloads.slice(0, FIRST), tasks: firstTasks(tasks, FIRST) };
  const shown = isWhole ? { workloads, tasks } : few;
  const left = all - shown.workloads.length - shown.tasks.length;
  const tools =
    work.workloads.length + work.tasks.length > 8 ? (
      <input
        type="search"
        aria-label="Search the work"
        placeholder="Search"
        value={search}
        onInput={(event) => setSearch(event.currentTarget.value)}
      />
    ) : undefined;
  return (
    <Section id="work" title="Work" note={noteOf(work)} tools={tools}>
      {all === 0 ? (
        <p class="empty">{search === "" ? "Nothing has been sent to run." : "Nothing is meant by that."}</p>
      ) : null}
      {all === 0 ? null : (
        <div class="scroll">
          <table class="work">
            <thead>
              <tr>
                <th scope="col">name</th>
                <th scope="col">state</th>
                <th scope="col">GPUs</th>
                <th scope="col">node</th>
                <th scope="col">since</th>
                <th scope="col">remarks</th>
                <th scope="col">
                  <span class="unseen">What can be done</span>
                </th>
              </tr>
            </thead>
            {shown.workloads.length === 0 ? null : (
              <tbody>
                <Heading text="Services" />
                {shown.workloads.map((one) => (
                  <WorkloadRow key={one.id} {...{ one, names }} />
                ))}
              </tbody>
            )}
            {shown.tasks.length === 0 ? null : (
              <tbody>
                <Heading text="Tasks" />
                {shown.tasks.map((one) => (
                  <TaskRow key={one.task_id} {...{ one, names }} />
                ))}
              </tbody>
            )}
          </table>
        </div>
      )}
      {left > 0 ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {all}
        </button>
      ) : null}
    </Section>
  );
});

function noteOf({ counts }: WorkAnswer): string | undefined {
  if (counts.workloads + counts.tasks === 0) return undefined;
  const parts = [count(counts.workloads, "service"), count(counts.open_tasks, "open task"), count(counts.runs, "run")];
  return parts.join(", ");
}

function Heading({ text }: { readonly text: string }) {
  return (
    <tr class="group">
      <th scope="rowgroup" colSpan={7}>
        {text}
      </th>
    </tr>
  );
}

const WorkloadRow = pure(function WorkloadRow({ one, names }: { readonly one: Workload; readonly names: Names }) {
  const { status, runs, deleted } = one;
  const offered: Deed[] = deleted
    ? []
    : [deeds.restartWorkload(one.id, one.name), deeds.deleteWorkload(one.id, one.name)];
  const restarts = status.nodes.reduce((sum, node) => sum + node.restarts, 0);
  return (
    <Row
      {...{ one, names, runs, offered }}
      id={one.id}
      state={<Mark look={workloadLook(one)} />}
      gpus={gpuNames(gpusOf(runs), names)}
      since={one.createdAt === null ? null : <Age at={one.createdAt} />}
      remarks={
        <>
          <span>
            {status.readyReplicas} of {status.replicas} ready
          </span>
          {status.message === "" ? null : <span>{words(status.message)}</span>}
          {restarts === 0 ? null : <span>{count(restarts, "restart")}</span>}
        </>
      }
      inside={<Replicas one={one} names={names} />}
    />
  );
});

const TaskRow = pure(function TaskRow({ one, names }: { readonly one: Task; readonly names: Names }) {
  const { runs, started_at, finished_at, submitted_at } = one;
  const remark = useTold((now) => taskRemark(one, now));
  const since = finished_at ?? started_at ?? submitted_at;
  const used = isOpen(one) ? gpusOf(runs) : (runs[0]?.gpu_uuids ?? []);
  const wants = one.gpus * one.replicas;
  return (
    <Row
      {...{ one, names, runs }}
      id={one.task_id}
      offered={isOpen(one) && !one.cancelling ? [deeds.cancelTask(one.task_id, one.name)] : []}
      state={<Mark look={taskLook(one)} />}
      gpus={used.length > 0 ? gpuNames(used, names) : isOpen(one) && wants > 0 ? `wants ${wants}` : ""}
      since={since === null ? null : isOpen(one) ? <Age at={since} /> : <At at={Date.parse(since)} />}
      remarks={
        <>
          {remark === "" ? null : <span>{remark}</span>}
          {one.retries === 0 ? null : <span>{count(one.retries, "failed try", "failed tries")}</span>}
        </>
      }
      inside={<Runs runs={runs} of={one} names={names} />}
    />
  );
});

interface RowFacts {
  readonly one: Workload | Task;
  readonly id: string;
  readonly names: Names;
  readonly runs: readonly RunLine[];
  readonly offered: readonly Deed[];
  readonly state: ComponentChildren;
  readonly gpus: string;
  readonly since: ComponentChildren;
  readonly remarks: ComponentChildren;
  /** What is shown below it when it is opened. */
  readonly inside: ComponentChildren;
}

function Row({ one, id, runs, offered, state, gpus, since, remarks, inside }: RowFacts) {
  const { me, propose } = useTools();
  const [isOpened, setOpened] = useState(false);
  const isOwn = me.keyed && me.principal === one.owner;
  const isTheirs = mayTouch(me, one.owner);
  return (
    <>
      <tr class={isOwn ? "own" : ""}>
        <th scope="row" class="who" title={id}>
          {one.name}
          <small> {isOwn ? "yours" : me.keyed ? one.owner : ""}</small>
        </th>
        <td data-label="state">{state}</td>
        <td data-label="GPUs">{gpus === "" ? <span class="faint">none</span> : gpus}</td>
        <td data-label="node">{nodesOf(runs) || NO_READING}</td>
        <td data-label="since">{since}</td>
        <td class="wide remarks">{remarks}</td>
        <td class="deeds">
          <LogButton run={runs.find(({ state }) => state !== "waiting")} of={one} />
          {isTheirs && may(me.role, "run")
            ? offered.map((deed) => (
                <button type="button" class="quiet" key={deed.verb} onClick={() => propose(deed)}>
                  {deed.short ?? deed.verb}
                  <Of name={one.name} />
                </button>
              ))
            : null}
          <button
            type="button"
            class="quiet"
            aria-expanded={isOpened}
            aria-label={`The runs of ${one.name}`}
            onClick={() => setOpened(!isOpened)}
          >
            <Icon name="down" />
          </button>
        </td>
      </tr>
      {isOpened ? (
        <tr class="per-gpu">
          <td colSpan={7}>
            {inside}
            <small>
              <code>{id}</code>
            </small>
          </td>
        </tr>
      ) : null}
    </>
  );
}

interface RunsFacts {
  readonly runs: readonly RunLine[];
  readonly of: Workload | Task;
  readonly names: Names;
}

/** How each replica stands now, and the runs there were before. */
function Replicas({ one, names }: { readonly one: Workload; readonly names: Names }) {
  const { nodes } = one.status;
  const before = one.runs.filter(({ run_id }) => !nodes.some((node) => node.run_id === run_id));
  return (
    <ul class="runs">
      {nodes.map((node) => (
        <ReplicaRow key={node.replica} {...{ node, names }} of={one} />
      ))}
      {before.map((run) => (
        <RunRow key={run.run_id} {...{ run, names }} of={one} />
      ))}
    </ul>
  );
}

function ReplicaRow({ node, of, names }: { readonly node: Replica; readonly of: Workload; readonly names: Names }) {
  const run = of.runs.find(({ run_id }) => run_id === node.run_id);
  const told = useTold((now) => waitingText(node, now) || (run === undefined ? "" : runText(run, names, now)));
  return (
    <li>
      <span>replica {node.replica}</span>
      <Mark look={replicaLook(node.state)} />
      <span>{[told, node.url ?? ""].filter(Boolean).join(", ")}</span>
      <LogButton run={run} of={of} />
    </li>
  );
}

function Runs({ runs, of, names }: RunsFacts) {
  if (runs.length === 0) return <p class="empty">It has not been tried yet.</p>;
  return (
    <ul class="runs">
      {runs.map((run) => (
        <RunRow key={run.run_id} {...{ run, of, names }} />
      ))}
    </ul>
  );
}

function RunRow({ run, of, names }: { readonly run: RunLine } & Omit<RunsFacts, "runs">) {
  const told = useTold((now) => runText(run, names, now));
  return (
    <li>
      <span>{run.started_at === null ? "not begun" : <At at={Date.parse(run.started_at)} />}</span>
      <Mark look={runLook(run)} />
      <span>{told}</span>
      <LogButton {...{ run, of }} />
    </li>
  );
}

/** Of what has begun, to whoever may see what it writes. */
function LogButton({ run, of }: { readonly run: RunLine | undefined; readonly of: Workload | Task }) {
  const { me, openRun } = useTools();
  if (run === undefined || run.state === "waiting" || !mayTouch(me, of.owner)) return null;
  return (
    <button type="button" class="quiet" onClick={() => openRun({ id: run.run_id, name: of.name })}>
      Log
      <Of name={of.name} />
    </button>
  );
}
