/** The line of health, and the host in one sentence. */
import type { List, Me, Reading } from "../api/answers.ts";
import type { Link } from "../api/follow.ts";
import { count } from "../model/amounts.ts";
import { countsOf } from "../model/host.ts";
import type { Tone } from "../model/states.ts";
import { lasting } from "../model/time.ts";
import { useTold } from "./context.tsx";
import { Icon, ShapeIcon } from "./icons.tsx";
import { At } from "./small.tsx";

export interface HealthFacts {
  readonly me: Me;
  readonly list: List;
  readonly reading: Reading | null;
  readonly link: Link;
  readonly problem: string | null;
}

export function Masthead(
  given: HealthFacts & { readonly onLeave: (() => void) | null; readonly onAsk: (() => void) | null },
) {
  const { me, list, onLeave, onAsk } = given;
  return (
    <header class="masthead">
      <div class="bar-line">
        <p class="brand">
          <Icon name="mark" />
          gpu-orchestrator <small>{me.version}</small>
          {list.simulated ? <span class="tag simulated">simulated</span> : null}
        </p>
        <Connection {...given} />
        <p class="caller">
          {me.keyed ? (
            <>
              <Icon name="key" /> {me.principal} <small>{me.role}</small>
            </>
          ) : null}
          {onLeave === null ? null : (
            <button type="button" class="quiet" onClick={onLeave}>
              Forget the key
            </button>
          )}
        </p>
      </div>
      <div class="bar-line">
        <Headline list={list} />
        {onAsk === null ? null : (
          <button type="button" class="main" onClick={onAsk}>
            <Icon name="plus" />
            Ask for GPUs
          </button>
        )}
      </div>
      <Banners {...given} />
    </header>
  );
}

function Headline({ list }: { readonly list: List }) {
  const { all, free, held, cordoned, out, returning, waiting } = countsOf(list);
  return (
    <h1>
      <b>{free}</b> of {count(all, "GPU")} free
      <span class="also">
        <a class="state tone-held" href="#leases">
          <ShapeIcon shape="disc" />
          {held} leased
        </a>
        {returning === 0 ? null : (
          <span class="state tone-wait">
            <ShapeIcon shape="half" />
            {returning} coming back
          </span>
        )}
        {cordoned === 0 ? null : (
          <span class="state tone-off">
            <ShapeIcon shape="bars" />
            {cordoned} cordoned
          </span>
        )}
        {out === 0 ? null : (
          <span class="state tone-bad">
            <ShapeIcon shape="triangle" />
            {out} out of service
          </span>
        )}
        <a class={`state ${waiting === 0 ? "tone-off" : "tone-wait"}`} href="#queue">
          {waiting} waiting
        </a>
      </span>
    </h1>
  );
}

/** Two readings of the usual interval. */
const RECENT_MS = 10_000;

const LINKS: { readonly [link in Link]: readonly [word: string, tone: Tone] } = {
  live: ["live", "good"],
  connecting: ["connecting", "off"],
  lost: ["connection lost, trying again", "bad"],
};

function Connection({ list, reading, link }: HealthFacts) {
  const [word, tone] = LINKS[link];
  const last = reading?.monitor.last_reading_at ?? null;
  const age = useTold((now) => (last === null ? "no reading yet" : `read ${ago(now - Date.parse(last))}`));
  const isHealthy = reading?.monitor.healthy !== false;
  // What was well when the connection broke may not be any more.
  const well = link === "live" ? "good" : "off";
  return (
    <p class="connection">
      <span class={`state tone-${tone}`} role="status">
        <ShapeIcon shape={link === "live" ? "disc" : link === "lost" ? "cross" : "dashes"} />
        {word}
      </span>
      <span class={`state tone-${isHealthy ? well : "bad"}`}>
        <ShapeIcon shape={isHealthy ? "disc" : "triangle"} />
        {age}
      </span>
      {reading === null ? null : (
        <span class={`state tone-${reading.storage_healthy ? well : "bad"}`}>
          <ShapeIcon shape={reading.storage_healthy ? "disc" : "triangle"} />
          database {reading.storage_healthy ? "writes" : "does not write"}
        </span>
      )}
      {list.simulated ? null : <Driver reading={reading} />}
    </p>
  );
}

function Driver({ reading }: Pick<HealthFacts, "reading">) {
  return (
    <>
      {reading?.driver_version ? <span class="faint">driver {reading.driver_version}</span> : null}
      {reading?.cuda_version ? <span class="faint">CUDA {reading.cuda_version}</span> : null}
    </>
  );
}

/** A figure that changed each second would have the page laid out each second, to tell that all is well. */
function ago(ms: number): string {
  return ms < RECENT_MS ? "just now" : `${lasting(ms)} ago`;
}

/** What concerns everybody who looks. */
function Banners({ list, reading, problem }: HealthFacts) {
  const { drain } = list;
  const monitor = reading?.monitor;
  return (
    <>
      {problem === null ? null : (
        <p class="banner bad" role="alert">
          What is shown may be old: {problem}.
        </p>
      )}
      {drain === null ? null : (
        <p class="banner">
          <b>{drain.drained ? "The host is drained." : "The host is being drained."}</b> {drain.reason} ({drain.by},{" "}
          <At at={Date.parse(drain.since)} />)
          {drain.drained ? "" : `. ${count(drain.allocations.length, "lease")} still there.`}
        </p>
      )}
      {monitor?.failure ? (
        <p class="banner bad">
          The GPUs cannot be read: {monitor.failure.message}. No lease ends for that; nothing is granted.
        </p>
      ) : null}
      {monitor?.warnings.map((warning) => (
        <p class="banner" key={warning}>
          {warning}
        </p>
      ))}
    </>
  );
}
