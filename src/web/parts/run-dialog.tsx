/** Everything about one run, and what it writes, as it writes it. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Run } from "../api/answers.ts";
import { ApiError } from "../api/http.ts";
import { followLog } from "../api/log.ts";
import { NO_READING } from "../model/amounts.ts";
import { deeds } from "../model/deeds.ts";
import { type LogLine, withLines } from "../model/log.ts";
import { may, mayTouch } from "../model/rights.ts";
import { exactClock, lasting } from "../model/time.ts";
import { gpuNames, ranMs, runLook, waitingText, words } from "../model/work.ts";
import { pure, useFetched, useTold, useTools } from "./context.tsx";
import { Mark } from "./icons.tsx";
import { At, Choice, Dialog, Fact } from "./small.tsx";

export interface RunFacts {
  readonly id: string;
  /** Of the task or service that it is a run of. */
  readonly name: string;
}

export function RunDialog(given: {
  readonly run: RunFacts;
  readonly names: ReadonlyMap<string, string>;
  readonly revision: number;
  readonly onClose: () => void;
}) {
  const { id, name } = given.run;
  const { me, propose } = useTools();
  const { value: run, problem } = useFetched<Run>(`/runs/${encodeURIComponent(id)}`, given.revision, 200);
  const isLive = run !== null && run.state !== "ended" && run.state !== "stopping";
  const mayStop = run !== null && may(me.role, "run") && mayTouch(me, run.owner);
  return (
    <Dialog title={name} kind="side" onClose={given.onClose}>
      {problem === null ? null : <p class="problem">{problem}</p>}
      {run === null ? null : <Facts run={run} names={given.names} />}
      {mayStop && isLive ? (
        <div class="buttons">
          <button type="button" onClick={() => propose(deeds.stopRun(id, name))}>
            Stop this run
          </button>
        </div>
      ) : null}
      <Log run={id} />
    </Dialog>
  );
}

function Facts({ run, names }: { readonly run: Run; readonly names: ReadonlyMap<string, string> }) {
  const took = useTold((now) => {
    const ms = ranMs(run, now);
    return ms === null ? NO_READING : lasting(ms);
  });
  const waits = useTold((now) => waitingText(run, now));
  const ended = [run.detail, run.exit_code === null ? "" : `exit code ${run.exit_code}`, run.signal ?? ""];
  const remark = run.state === "ended" ? ended.filter(Boolean).join(", ") : waits;
  return (
    <dl class="facts">
      <Fact name="State">
        <Mark look={runLook(run)} /> {words(remark)}
      </Fact>
      <Fact name="Node">
        {run.node ?? NO_READING}
        {run.port === null ? "" : `, port ${run.port}`}
      </Fact>
      <Fact name="GPUs">{run.gpu_uuids.length === 0 ? "none" : gpuNames(run.gpu_uuids, names)}</Fact>
      <Fact name="Began">{run.started_at === null ? NO_READING : <At at={Date.parse(run.started_at)} />}</Fact>
      <Fact name={run.ended_at === null ? "Has run" : "Ran"}>{took}</Fact>
      <Fact name="Replica">{run.replica}</Fact>
      <Fact name="Owner">{run.owner}</Fact>
      <Fact name="Run">
        <code>{run.run_id}</code>
      </Fact>
    </dl>
  );
}

const STREAMS = ["all", "stdout", "stderr"] as const;
/** Lines that come together are drawn together, in ms: a program may write faster than anybody reads. */
const DRAW_MS = 100;

interface Reading {
  readonly lines: readonly LogLine[];
  readonly says: "reading" | "following" | "over";
  readonly problem: string | null;
}

const NOTHING_READ: Reading = { lines: [], says: "reading", problem: null };

function Log({ run }: { readonly run: string }) {
  const { lines, says, problem } = useLog(run);
  const [stream, setStream] = useState<(typeof STREAMS)[number]>("all");
  const shown = stream === "all" ? lines : lines.filter((line) => line.stream === stream);
  const empty = says === "over" ? "It has written nothing." : says === "following" ? "Nothing written yet." : "…";
  return (
    <section class="log-part" aria-labelledby="log-title">
      <header>
        <h3 id="log-title">Log</h3>
        <p class="note" role="status">
          {says === "following" ? "live" : ""}
        </p>
        <div class="tools">
          <Choice label="Which stream" of={STREAMS} taken={stream} onTake={setStream} />
        </div>
      </header>
      {problem === null ? <Lines lines={shown} empty={empty} /> : <p class="problem">{problem}</p>}
    </section>
  );
}

function useLog(run: string): Reading {
  const { api } = useTools();
  const [reading, setReading] = useState(NOTHING_READ);
  useEffect(() => {
    const ending = new AbortController();
    let now = NOTHING_READ;
    let timer: ReturnType<typeof setTimeout> | null = null;
    const show = (change: Partial<Reading>) => {
      now = { ...now, ...change };
      timer ??= setTimeout(() => {
        timer = null;
        setReading(now);
      }, DRAW_MS);
    };
    const parts = {
      api,
      pause,
      onBegin: () => show({ lines: [], says: "following" }),
      onLines: (more: Parameters<typeof withLines>[1]) => show({ lines: withLines(now.lines, more) }),
    };
    followLog(parts, run, ending.signal).then(
      () => show({ says: "over" }),
      (error: unknown) => show({ problem: error instanceof ApiError ? error.message : String(error) }),
    );
    return () => {
      ending.abort();
      if (timer !== null) clearTimeout(timer);
    };
  }, [run]);
  return reading;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve());
  });
}

/** So near the end, in px, whoever reads is taken to want what comes next. */
const NEAR_PX = 24;

const Lines = pure(function Lines({ lines, empty }: { readonly lines: readonly LogLine[]; readonly empty: string }) {
  const box = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    if (isAtEnd.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const look = ({ currentTarget: { scrollTop, clientHeight, scrollHeight } }: { currentTarget: HTMLDivElement }) => {
    isAtEnd.current = scrollTop + clientHeight >= scrollHeight - NEAR_PX;
  };
  return (
    <div
      class="log"
      ref={box}
      role="log"
      aria-label="What the run has written"
      aria-live="off"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: whoever has no mouse scrolls it by the keyboard.
      tabIndex={0}
      onScroll={look}
    >
      {lines.length === 0 ? <p class="empty">{empty}</p> : null}
      {lines.map((line) => (
        <p key={line.n} class={line.stream}>
          {line.at === null ? null : <time>{exactClock(line.at)}</time>}
          <span>{line.text}</span>
        </p>
      ))}
    </div>
  );
});
