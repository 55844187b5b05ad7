/** The GPUs as cards: who has each, since when, until when, and why one is not given out. */
import { type ComponentChildren, Fragment } from "preact";
import type { Gpu, Holder, Lease, MigDevice } from "../api/answers.ts";
import { count, gib, modelOf, rounded, share } from "../model/amounts.ts";
import { deeds } from "../model/deeds.ts";
import { endOf, firstHolders, type LeaseEnd, onlyModel } from "../model/host.ts";
import { may } from "../model/rights.ts";
import { pathOf } from "../model/series.ts";
import { lookOf } from "../model/states.ts";
import { pure, useTools } from "./context.tsx";
import { Icon, ShapeIcon, StateMark } from "./icons.tsx";
import { Age, Bar, LeaseLeft, Section } from "./small.tsx";

/** From so many on, cards say less each: the rest is one press away. */
const MANY = 20;
const SPARK = { width: 120, height: 26 } as const;

export const Gpus = pure(function Gpus(given: {
  readonly gpus: readonly Gpu[];
  readonly leases: readonly Lease[];
  readonly series: ReadonlyMap<string, readonly (number | null)[]>;
  readonly isDrained: boolean;
}) {
  const { me, propose } = useTools();
  const { gpus, leases, series, isDrained } = given;
  const model = onlyModel(gpus);
  const ends = new Map(leases.map((lease) => [lease.id, endOf(lease)]));
  const isDense = gpus.length >= MANY;
  const note = model === null ? count(gpus.length, "GPU") : `${gpus.length} × ${modelOf(model)}`;
  const tools = may(me.role, "admin") ? (
    <button type="button" onClick={() => propose(isDrained ? deeds.undrainHost() : deeds.drainHost())}>
      {isDrained ? "End the drain" : "Drain the host"}
    </button>
  ) : undefined;
  return (
    <Section id="gpus" title="GPUs" note={note} tools={tools}>
      {gpus.length === 0 ? <p class="empty">No GPU has been seen yet.</p> : null}
      <ul class={`cards ${isDense ? "dense" : ""}`}>
        {gpus.map((gpu) => (
          <Card
            key={gpu.uuid}
            {...{
              gpu,
              isDense,
              ends,
              isDrained,
              hasName: model === null,
              series: isDense ? NONE : (series.get(gpu.uuid) ?? NONE),
            }}
          />
        ))}
      </ul>
    </Section>
  );
});

const NONE: readonly (number | null)[] = [];

interface CardFacts {
  readonly gpu: Gpu;
  readonly isDense: boolean;
  /** The whole host is. */
  readonly isDrained: boolean;
  readonly hasName: boolean;
  readonly ends: ReadonlyMap<string, LeaseEnd | null>;
  readonly series: readonly (number | null)[];
}

const Card = pure(function Card({ gpu, isDense, isDrained, hasName, ends, series }: CardFacts) {
  const { openGpu } = useTools();
  const look = lookOf(gpu.state);
  const services = firstHolders(gpu).map(({ service_name }) => service_name);
  const isSplit = gpu.mig_devices.length > 0 || gpu.holders.length > 1;
  const title = services.length === 0 ? look.word : services.join(", ");
  return (
    <li class={`card tone-${look.tone}`} data-gpu={gpu.id}>
      <button type="button" class="card-head" onClick={() => openGpu(gpu.uuid)}>
        <b class="index">
          <span class="unseen">GPU </span>
          {gpu.id ?? "?"}
        </b>
        <StateMark state={gpu.state} />
        <span class="unseen">: everything about it</span>
      </button>
      <h3 title={title}>
        <span class="unseen">GPU {gpu.id ?? "?"}: </span>
        {services.length === 0 ? <span class="nobody">nobody</span> : <Holders gpu={gpu} />}
      </h3>
      <Tenure {...{ gpu, ends }} />
      <dl class="figures">
        <Figure name="memory" part={share(gpu.memory_used, gpu.memory_total)}>
          {gib(gpu.memory_used)} <small>/ {gib(gpu.memory_total)} GiB</small>
        </Figure>
        <Figure name="compute" part={share(gpu.utilization, 100)}>
          {rounded(gpu.utilization)} <small>%</small>
        </Figure>
      </dl>
      <div class="foot">
        <Spark series={series} />
        <span title="Temperature">
          <Icon name="heat" /> {rounded(gpu.temperature)} °C
        </span>
        <span title="Power">
          <Icon name="bolt" /> {rounded(gpu.power_draw)} W
        </span>
      </div>
      {isSplit && !isDense ? <Parts {...{ gpu, ends }} /> : null}
      <Why {...{ gpu, isDrained }} />
      {hasName ? <p class="model">{modelOf(gpu.name)}</p> : null}
    </li>
  );
});

/** Who holds it or parts of it, each service once, and the way to its lease. */
function Holders({ gpu }: { readonly gpu: Gpu }) {
  return (
    <>
      {firstHolders(gpu).map((holder, i) => (
        <Fragment key={holder.allocation_id}>
          {i === 0 ? null : ", "}
          <a class="holder" href={`#lease-${holder.allocation_id}`}>
            {holder.service_name}
          </a>
        </Fragment>
      ))}
    </>
  );
}

function Figure(given: { readonly name: string; readonly part: number | null; readonly children: ComponentChildren }) {
  return (
    <div>
      <dt>{given.name}</dt>
      <dd>
        <span>{given.children}</span>
        <Bar part={given.part} label={given.name} />
      </dd>
    </div>
  );
}

/** Since when it is as it is, and until when. */
function Tenure({ gpu, ends }: { readonly gpu: Gpu; readonly ends: CardFacts["ends"] }) {
  const holders = [...gpu.holders, ...gpu.mig_devices.flatMap((one) => one.holders)];
  const [holder] = holders;
  if (holder === undefined) return <p class="tenure">{gpu.since === null ? null : <Since at={gpu.since} />}</p>;
  if (holders.length > 1) return <p class="tenure">{count(holders.length, "lease")} on it</p>;
  return (
    <p class="tenure">
      <Since at={holder.since} />
      <span class="sep"> · </span>
      <Until holder={holder} ends={ends} />
      <IdleMark holder={holder} />
    </p>
  );
}

function Since({ at }: { readonly at: string }) {
  return (
    <span class="since">
      for <Age at={at} />
    </span>
  );
}

function Until({ holder, ends }: { readonly holder: Holder; readonly ends: CardFacts["ends"] }) {
  return <LeaseLeft end={ends.get(holder.allocation_id) ?? null} />;
}

function IdleMark({ holder }: { readonly holder: Holder }) {
  if (holder.idle_since === null) return null;
  return (
    <span class="state tone-wait idle">
      <ShapeIcon shape="moon" />
      idle <Age at={holder.idle_since} />
    </span>
  );
}

/** Those who share it, or its MIG instances. */
function Parts({ gpu, ends }: { readonly gpu: Gpu; readonly ends: CardFacts["ends"] }) {
  return (
    <ul class="parts">
      {gpu.holders.map((holder) => (
        <li key={holder.allocation_id}>
          <span class="who" title={holder.service_name}>
            {holder.service_name}
          </span>
          <span class="amount">{holder.memory_mb === null ? "" : `${gib(holder.memory_mb)} GiB`}</span>
          <span class="until">
            <Until {...{ holder, ends }} />
          </span>
          {holder.over_memory_since === null ? null : <span class="state tone-wait">over its memory</span>}
        </li>
      ))}
      {gpu.mig_devices.map((instance) => (
        <Instance key={instance.uuid ?? instance.gpu_instance_id} {...{ instance, ends }} />
      ))}
    </ul>
  );
}

function Instance({ instance, ends }: { readonly instance: MigDevice; readonly ends: CardFacts["ends"] }) {
  const [holder] = instance.holders;
  return (
    <li>
      <span class="profile">{instance.profile ?? "?"}</span>
      {holder === undefined ? (
        <StateMark state={instance.state} />
      ) : (
        <>
          <span class="who" title={holder.service_name}>
            {holder.service_name}
          </span>
          <span class="until">
            <Until {...{ holder, ends }} />
          </span>
        </>
      )}
      <Bar part={share(instance.memory_used, instance.memory_total)} label="memory" />
    </li>
  );
}

function Spark({ series }: { readonly series: readonly (number | null)[] }) {
  const { width, height } = SPARK;
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={pathOf(series, width, height - 2)} transform="translate(0 1)" />
    </svg>
  );
}

/** Why it is not given out, or what is wrong with it while it is held. Why the host is drained stands above them all. */
function Why({ gpu, isDrained }: Pick<CardFacts, "gpu" | "isDrained">) {
  const { state, reason, ailment, cordon } = gpu;
  if (isDrained && cordon === null && (ailment?.state ?? state) === "cordoned") {
    return <Reason state="cordoned" text="the host is drained" />;
  }
  if (ailment !== null)
    return <Reason state={ailment.state} text={`${lookOf(ailment.state).word}: ${ailment.reason}`} />;
  return state === "leased" || reason === null ? null : <Reason state={state} text={reason} />;
}

function Reason({ state, text }: { readonly state: string; readonly text: string }) {
  return (
    <p class={`why tone-${lookOf(state).tone}`} title={text}>
      {text}
    </p>
  );
}
