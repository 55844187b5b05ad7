/** For admins: the webhooks that were sent, and what came of them. */
import { useState } from "preact/hooks";
import type { Delivery } from "../api/answers.ts";
import { deeds } from "../model/deeds.ts";
import { pure, useFetched, useTools } from "./context.tsx";
import { ShapeIcon } from "./icons.tsx";
import { At, Choice, Left, Of, Section } from "./small.tsx";

const STATES = { all: "", pending: "pending", "gave up": "gave-up", delivered: "delivered" } as const;
type StateName = keyof typeof STATES;
const STATE_NAMES = Object.keys(STATES) as StateName[];
const LIMIT = 50;

const LOOKS = {
  delivered: { shape: "disc", tone: "good" },
  pending: { shape: "half", tone: "wait" },
  "gave-up": { shape: "cross", tone: "bad" },
  withdrawn: { shape: "bars", tone: "off" },
} as const;

export const Deliveries = pure(function Deliveries({ revision }: { readonly revision: number }) {
  const { propose } = useTools();
  const [state, setState] = useState<StateName>("all");
  const filter = STATES[state] === "" ? "" : `&state=${STATES[state]}`;
  const { value, problem } = useFetched<{ deliveries: Delivery[] }>(
    `/gpu/webhooks/deliveries?limit=${LIMIT}${filter}`,
    revision,
  );
  const rows = value?.deliveries ?? [];
  const tools = <Choice label="In what state" of={STATE_NAMES} taken={state} onTake={setState} />;
  return (
    <Section id="deliveries" title="Webhooks" tools={tools}>
      {problem === null ? null : <p class="problem">{problem}</p>}
      {value !== null && rows.length === 0 ? <p class="empty">No webhook of that kind has been sent.</p> : null}
      {rows.length === 0 ? null : (
        <div class="scroll">
          <table class="deliveries">
            <thead>
              <tr>
                <th scope="col">state</th>
                <th scope="col">tells</th>
                <th scope="col">to</th>
                <th scope="col">at</th>
                <th scope="col" class="number">
                  tries
                </th>
                <th scope="col">last answer</th>
                <th scope="col">
                  <span class="unseen">What can be done</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((one) => (
                <tr key={one.id}>
                  <td data-label="state">
                    <span class={`state tone-${LOOKS[one.state].tone}`}>
                      <ShapeIcon shape={LOOKS[one.state].shape} />
                      {one.state}
                    </span>
                  </td>
                  <td data-label="tells" title={one.allocation_id ?? ""}>
                    {one.status.replaceAll("_", " ")}
                  </td>
                  <td class="wide" data-label="to">
                    {one.url}
                  </td>
                  <td data-label="at">
                    <At at={Date.parse(one.created_at)} />
                  </td>
                  <td class="number" data-label="tries">
                    {one.attempts}
                  </td>
                  <td class="wide" data-label="last answer">
                    {one.http_status ?? ""} {one.error ?? ""}
                    {one.next_attempt_at === null || one.attempts === 0 ? null : (
                      <>
                        {" again: "}
                        <Left until={Date.parse(one.next_attempt_at)} />
                      </>
                    )}
                  </td>
                  <td class="deeds">
                    <button type="button" class="quiet" onClick={() => propose(deeds.redeliver(one.id))}>
                      Redeliver
                      <Of name={one.allocation_id ?? ""} />
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
});
