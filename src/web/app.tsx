/** The page as a whole. */
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import type { Api } from "./api/http.ts";
import type { Board } from "./board.ts";
import type { Deed } from "./model/deeds.ts";
import { countsOf, headline, namesOf } from "./model/host.ts";
import { may } from "./model/rights.ts";
import { AllocateDialog } from "./parts/allocate.tsx";
import { type Tools, ToolsContext } from "./parts/context.tsx";
import { DeedDialog } from "./parts/deed.tsx";
import { Deliveries } from "./parts/deliveries.tsx";
import { Events } from "./parts/events.tsx";
import { GpuDialog } from "./parts/gpu-dialog.tsx";
import { Gpus } from "./parts/gpus.tsx";
import { Masthead } from "./parts/health.tsx";
import { KeyForm } from "./parts/key-form.tsx";
import { Leases } from "./parts/leases.tsx";
import { Limits } from "./parts/limits.tsx";
import { Queue } from "./parts/queue.tsx";
import { RunDialog } from "./parts/run-dialog.tsx";
import { TimeLine } from "./parts/time-line.tsx";
import { Usage } from "./parts/usage.tsx";
import { Work } from "./parts/work.tsx";

export interface AppFacts {
  readonly api: Api;
  readonly board: Board;
  /** `null` when there is none to forget. */
  readonly keyNow: () => string | null;
  readonly giveKey: (key: string | null) => void;
}

/** A request that waits, and was asked for here, is looked after this often, in ms: its client must show life. */
const LOOK_AFTER_MS = 10_000;
/** So many GPUs leave room for the queue beside them. */
const FEW = 2;

export function App({ api, board, keyNow, giveKey }: AppFacts) {
  const view = useBoard(board);
  const [deed, setDeed] = useState<Deed | null>(null);
  const [gpuUuid, openGpu] = useState<string | null>(null);
  const [run, openRun] = useState<{ readonly id: string; readonly name: string } | null>(null);
  const [isAsking, setAsking] = useState(false);
  const lookAfter = useLookAfter(api);
  const refresh = useCallback(() => board.refresh(), [board]);
  const { me, list } = view;
  const tools = useMemo<Tools | null>(
    () => (me === null ? null : { api, me, refresh, propose: setDeed, openGpu, openRun }),
    [api, refresh, me && JSON.stringify(me)],
  );
  useEffect(() => {
    document.title = list === null ? "gpu-orchestrator" : `${headline(countsOf(list))} · gpu-orchestrator`;
  }, [list]);

  const indices = useSame(list?.gpus.map(({ uuid, id }): [string, number | null] => [uuid, id]) ?? []);
  const names = useSame(namesOf(list?.gpus ?? []));

  if (view.phase === "key") return <KeyForm problem={keyNow() === null ? null : view.problem} onKey={giveKey} />;
  if (list === null || tools === null || me === null) {
    return <main class="starting">{view.problem === null ? null : <p role="alert">{view.problem}</p>}</main>;
  }
  const gpu = list.gpus.find(({ uuid }) => uuid === gpuUuid);
  const { revision } = view;
  return (
    <ToolsContext.Provider value={tools}>
      <Masthead
        {...{ me, list, reading: view.reading, link: view.link, problem: view.problem }}
        onLeave={keyNow() === null ? null : () => giveKey(null)}
        onAsk={may(me.role, "allocate") ? () => setAsking(true) : null}
      />
      <main class={list.gpus.length <= FEW ? "few" : ""}>
        <Gpus gpus={list.gpus} leases={list.allocations} series={view.series} isDrained={list.drain !== null} />
        <Queue queue={list.queue} revision={revision} />
        <Leases leases={list.allocations} />
        {view.work === null ? null : <Work work={view.work} names={names} />}
        <TimeLine indices={indices} revision={revision} />
        <div class="below">
          <Usage revision={revision} />
          <Events events={view.events} names={names} />
          {may(me.role, "admin") ? <Deliveries revision={revision} /> : null}
          <Limits revision={revision} />
        </div>
      </main>
      <footer>
        <a href="/docs">API</a> <a href="/metrics">Metrics</a>
      </footer>
      {gpu === undefined ? null : <GpuDialog gpu={gpu} leases={list.allocations} onClose={() => openGpu(null)} />}
      {run === null ? null : (
        <RunDialog {...{ run, names }} revision={view.workRevision} onClose={() => openRun(null)} />
      )}
      {isAsking ? <AllocateDialog onClose={() => setAsking(false)} onWaiting={lookAfter} /> : null}
      {deed === null ? null : <DeedDialog deed={deed} onClose={() => setDeed(null)} />}
    </ToolsContext.Provider>
  );
}

/** The same value as long as GPUs are called the same: a reading changes their figures, not their names. */
function useSame<T>(entries: readonly [string, T][]): ReadonlyMap<string, T> {
  return useMemo(() => new Map(entries), [JSON.stringify(entries)]);
}

function useBoard(board: Board) {
  const [view, setView] = useState(board.view);
  useEffect(() => {
    setView(board.view);
    let isDue = false;
    return board.watch(() => {
      if (isDue) return;
      isDue = true;
      // What comes together is drawn together. A hidden page draws when it is looked at again.
      requestAnimationFrame(() => {
        isDue = false;
        setView(board.view);
      });
    });
  }, [board]);
  return view;
}

/** Asks now and then for what waits and was asked for here, until it waits no longer. */
function useLookAfter(api: Api): (id: string) => void {
  const [ids, setIds] = useState<readonly string[]>([]);
  useEffect(() => {
    if (ids.length === 0) return;
    const timer = setInterval(async () => {
      for (const id of ids) {
        const record = await api
          .get<{ status: string }>(`/gpu/allocations/${encodeURIComponent(id)}`)
          .catch(() => null);
        if (record !== null && record.status !== "queued") setIds((now) => now.filter((one) => one !== id));
      }
    }, LOOK_AFTER_MS);
    return () => clearInterval(timer);
  }, [api, ids]);
  return useCallback((id: string) => setIds((now) => [...now, id]), []);
}
