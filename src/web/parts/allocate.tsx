/** Asks for GPUs, with what would come of it beside the form before it is sent. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Allocated, Plan } from "../api/answers.ts";
import { ApiError } from "../api/http.ts";
import { gib, indices } from "../model/amounts.ts";
import { type Ask, bodyOf, EMPTY_ASK, exportsOf } from "../model/ask.ts";
import { expected } from "../model/time.ts";
import { useTools } from "./context.tsx";
import { ShapeIcon } from "./icons.tsx";
import { Copyable, Dialog } from "./small.tsx";

/** After the last key press, in ms. */
const SETTLE_MS = 250;
/** A plan is asked for under some name: who asks decides nothing but a quota. */
const NAMELESS = "somebody";

type Foreseen = { readonly plan: Plan } | { readonly problem: ApiError } | null;

export function AllocateDialog({
  onClose,
  onWaiting,
}: {
  readonly onClose: () => void;
  readonly onWaiting: (id: string) => void;
}) {
  const { api, refresh } = useTools();
  const [ask, setAsk] = useState<Ask>(EMPTY_ASK);
  const [answer, setAnswer] = useState<Allocated | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  // The same press twice is one request.
  const key = useMemo(
    () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join(""),
    [],
  );
  const foreseen = usePlan(ask);
  const put = (change: Partial<Ask>) => setAsk({ ...ask, ...change });
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      const given = await api.send<Allocated>("POST", "/gpu/allocate", bodyOf(ask), { "idempotency-key": key });
      if (given.status === "queued") onWaiting(given.id);
      setAnswer(given);
      refresh();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  if (answer !== null) return <Answered answer={answer} onClose={onClose} />;
  return (
    <Dialog title="Ask for GPUs" onClose={onClose}>
      <form class="ask" onSubmit={submit}>
        <div class="fields">
          <Text
            label="Service"
            value={ask.service}
            onInput={(service) => put({ service })}
            isNeeded
            pattern="[A-Za-z0-9._\-]+"
          />
          <div class="pair">
            <Text label="GPUs" isNumber value={ask.gpus} onInput={(gpus) => put({ gpus })} />
            <Text
              label="GiB on each"
              isNumber
              value={ask.memoryGib}
              onInput={(memoryGib) => put({ memoryGib })}
              hint="by workload"
            />
          </div>
          <div class="pair">
            <Text
              label="For at most"
              value={ask.maxDuration}
              onInput={(maxDuration) => put({ maxDuration })}
              hint="no end"
            />
            <Text label="Unless renewed within" value={ask.ttl} onInput={(ttl) => put({ ttl })} hint="no renewal" />
          </div>
          <div class="pair">
            <Text label="Model" value={ask.model} onInput={(model) => put({ model })} hint="any" />
            <Text
              label="Priority"
              isNumber
              value={ask.priority}
              onInput={(priority) => put({ priority })}
              hint="1 to 10"
            />
          </div>
          <label class="check">
            <input type="checkbox" checked={ask.isShared} onChange={() => put({ isShared: !ask.isShared })} />
            Only a part of each: others may share it
          </label>
          <label class="check">
            <input
              type="checkbox"
              checked={ask.isPreemptible}
              onChange={() => put({ isPreemptible: !ask.isPreemptible })}
            />
            May be taken back for something more urgent
          </label>
        </div>
        <aside aria-live="polite">
          <h3>What comes of it</h3>
          <Outlook foreseen={foreseen} />
        </aside>
        {problem === null ? null : (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <div class="buttons">
          <button type="submit" class="main" disabled={isBusy}>
            Ask for them
          </button>
        </div>
      </form>
    </Dialog>
  );
}

interface TextFacts {
  readonly label: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
  readonly isNumber?: true;
  readonly hint?: string;
  readonly isNeeded?: true;
  readonly pattern?: string;
}

function Text({ label, value, onInput, isNumber, hint, isNeeded, pattern }: TextFacts) {
  const shared = {
    value,
    placeholder: hint ?? "",
    required: isNeeded === true,
    onInput: (event: { readonly currentTarget: HTMLInputElement }) => onInput(event.currentTarget.value),
  };
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the input is one of the two below.
    <label>
      {label}
      {isNumber === true ? (
        <input type="number" min={0} step="any" {...shared} />
      ) : (
        <input maxLength={128} {...(pattern === undefined ? {} : { pattern })} {...shared} />
      )}
    </label>
  );
}

/** The daemon's own forecast of the form as it is. */
function usePlan(ask: Ask): Foreseen {
  const { api } = useTools();
  const [foreseen, setForeseen] = useState<Foreseen>(null);
  useEffect(() => {
    let isOver = false;
    const timer = setTimeout(async () => {
      const body = bodyOf({ ...ask, service: ask.service.trim() === "" ? NAMELESS : ask.service });
      try {
        const plan = await api.send<Plan>("POST", "/gpu/plan", body);
        if (!isOver) setForeseen({ plan });
      } catch (error) {
        if (!isOver && error instanceof ApiError) setForeseen({ problem: error });
      }
    }, SETTLE_MS);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [ask]);
  return foreseen;
}

function Outlook({ foreseen }: { readonly foreseen: Foreseen }) {
  if (foreseen === null) return <p class="faint">…</p>;
  if ("problem" in foreseen) {
    const { errors, message } = foreseen.problem;
    return (
      <>
        <Verdict tone="bad" shape="cross" text="Refused" />
        {errors.length === 0 ? <p>{message}</p> : null}
        {errors.map((error) => (
          <p key={error.path}>
            <b>{error.path}</b>: {error.message}
          </p>
        ))}
      </>
    );
  }
  const { plan } = foreseen;
  if (plan.outcome === "refused") {
    return (
      <>
        <Verdict tone="bad" shape="cross" text="Refused" />
        <p>{plan.reason}</p>
      </>
    );
  }
  const asked = `${plan.required_gpus} × ${gib(plan.min_memory_mb)} GiB, priority ${plan.priority}`;
  if (plan.outcome === "granted") {
    return (
      <>
        <Verdict tone="good" shape="disc" text="Granted now" />
        <p>GPU {indices(plan.gpu_ids ?? [])}</p>
        <p class="faint">{asked}</p>
      </>
    );
  }
  const { eta } = plan;
  return (
    <>
      <Verdict tone="wait" shape="half" text={`Waits, at position ${plan.position}`} />
      <p>
        {eta === null
          ? "No telling until when."
          : expected(Date.parse(eta.earliest), Date.parse(eta.latest), Date.now())}
      </p>
      <p>{plan.reason}</p>
      <p class="faint">{asked}</p>
    </>
  );
}

function Verdict({
  tone,
  shape,
  text,
}: {
  readonly tone: string;
  readonly shape: "disc" | "half" | "cross";
  readonly text: string;
}) {
  return (
    <p class={`verdict state tone-${tone}`}>
      <ShapeIcon shape={shape} />
      {text}
    </p>
  );
}

function Answered({ answer, onClose }: { readonly answer: Allocated; readonly onClose: () => void }) {
  const isGranted = answer.status === "allocated";
  return (
    <Dialog title={isGranted ? "Granted" : "In the queue"} onClose={onClose}>
      {isGranted ? (
        <>
          <p>GPU {indices(answer.gpu_ids ?? [])}. Set this for your program before it starts:</p>
          <Copyable text={exportsOf(answer.env ?? {})} />
        </>
      ) : (
        <>
          <p>
            Position {answer.position}: {answer.reason}
          </p>
          <p>This page keeps its place as long as it is open. What it is granted must be taken from there.</p>
        </>
      )}
      <p>
        <code>{answer.id}</code>
      </p>
    </Dialog>
  );
}
