/** Everything about one GPU, and what may be done to it. */
import type { Gpu, Lease, MigDevice } from "../api/answers.ts";
import { count, gib, modelOf, NO_READING, rounded } from "../model/amounts.ts";
import { type Deed, deeds } from "../model/deeds.ts";
import { isHeld, leasesOn } from "../model/host.ts";
import { may } from "../model/rights.ts";
import { useTools } from "./context.tsx";
import { StateMark } from "./icons.tsx";
import { Leases } from "./leases.tsx";
import { Age, At, Dialog, Fact } from "./small.tsx";

export function GpuDialog(given: {
  readonly gpu: Gpu;
  readonly leases: readonly Lease[];
  readonly onClose: () => void;
}) {
  const { gpu } = given;
  const { me } = useTools();
  const name = gpu.id === null ? gpu.uuid : `GPU ${gpu.id}`;
  const leases = leasesOn(gpu, given.leases);
  return (
    <Dialog title={`${name} · ${modelOf(gpu.name)}`} kind="side" onClose={given.onClose}>
      <p class="tenure">
        <StateMark state={gpu.state} />
        {gpu.since === null ? null : (
          <>
            {" for "}
            <Age at={gpu.since} />
          </>
        )}
      </p>
      {gpu.reason === null ? null : <p>{gpu.reason}</p>}
      {gpu.ailment === null ? null : (
        <p class="problem">
          {gpu.ailment.state}: {gpu.ailment.reason}
        </p>
      )}
      {gpu.cordon === null ? null : (
        <p>
          Cordoned by {gpu.cordon.by} at <At at={Date.parse(gpu.cordon.since)} />: {gpu.cordon.reason}
          {gpu.drained ? " (drained)" : ""}
        </p>
      )}
      {may(me.role, "admin") ? <GpuDeeds gpu={gpu} name={name} /> : null}
      {leases.length === 0 ? null : <Leases leases={leases} isWithin />}
      <Instances instances={gpu.mig_devices} />
      <Facts gpu={gpu} />
      <Processes gpu={gpu} />
    </Dialog>
  );
}

function GpuDeeds({ gpu, name }: { readonly gpu: Gpu; readonly name: string }) {
  const { propose } = useTools();
  const offered: Deed[] = [gpu.cordon === null ? deeds.cordon(gpu.uuid, name) : deeds.uncordon(gpu.uuid, name)];
  if (gpu.cordon === null || gpu.cordon.drain_by === null) offered.push(deeds.drain(gpu.uuid, name));
  if (gpu.state === "occupied") offered.push(deeds.adopt(gpu.uuid, name));
  if (gpu.state === "quarantined") offered.push(deeds.clear(gpu.uuid, name));
  if (gpu.state === "lost" && !isHeld(gpu)) offered.push(deeds.remove(gpu.uuid, name));
  return (
    <div class="buttons">
      {offered.map((deed) => (
        <button type="button" key={deed.verb} onClick={() => propose(deed)}>
          {deed.verb}
        </button>
      ))}
    </div>
  );
}

function Facts({ gpu }: { readonly gpu: Gpu }) {
  const links = Object.entries(gpu.links ?? {});
  return (
    <dl class="facts">
      <Fact name="UUID">
        <code>{gpu.uuid}</code>
      </Fact>
      <Fact name="PCI">{gpu.pci_bus_id ?? NO_READING}</Fact>
      <Fact name="Memory">
        {gib(gpu.memory_used)} of {gib(gpu.memory_total)} GiB
      </Fact>
      <Fact name="Compute">{rounded(gpu.utilization)} %</Fact>
      <Fact name="Temperature">{rounded(gpu.temperature)} °C</Fact>
      <Fact name="Power">
        {rounded(gpu.power_draw)} of {rounded(gpu.power_limit)} W
      </Fact>
      <Fact name="Next to">
        {gpu.numa_nodes === null ? NO_READING : `NUMA ${gpu.numa_nodes.join(", ")}`}
        {gpu.cpu_affinity === null ? "" : `, CPUs ${gpu.cpu_affinity}`}
      </Fact>
      {links.length === 0 ? null : <Fact name="Links">{summedUp(links.map(([, link]) => link))}</Fact>}
      {gpu.shared === null ? null : (
        <Fact name="Shared">
          {gib(gpu.shared.reserved_mb)} GiB reserved, {gib(gpu.shared.free_mb)} GiB to be had
        </Fact>
      )}
      {Object.entries(gpu.health ?? {}).flatMap(([name, value]) =>
        value === null || value === 0 || value === false
          ? []
          : [
              <Fact key={name} name={title(name)}>
                {String(value)}
              </Fact>,
            ],
      )}
      {gpu.xid_errors.map(({ xid, meaning, count, last_seen }) => (
        <Fact key={xid} name={`Xid ${xid}`}>
          {count} ×, last at <At at={Date.parse(last_seen)} />
          {meaning === null ? "" : `: ${meaning}`}
        </Fact>
      ))}
    </dl>
  );
}

function summedUp(links: readonly string[]): string {
  const kinds = Map.groupBy(links, (link) => link);
  return [...kinds].map(([kind, all]) => `${kind} to ${count(all.length, "GPU")}`).join(", ");
}

/** `ecc_mode` as `ECC mode`. */
function title(name: string): string {
  const words = name.replaceAll("_", " ").replace(/^ecc\b/, "ECC");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Each device of a GPU that is cut into MIG instances: who has it, or why nobody gets it. */
function Instances({ instances }: { readonly instances: readonly MigDevice[] }) {
  if (instances.length === 0) return null;
  return (
    <div class="scroll">
      <table>
        <caption>MIG instances</caption>
        <thead>
          <tr>
            <th scope="col">profile</th>
            <th scope="col">state</th>
            <th scope="col">who, or why not</th>
            <th scope="col" class="number">
              GiB
            </th>
          </tr>
        </thead>
        <tbody>
          {instances.map((one) => (
            <tr key={one.uuid ?? `${one.gpu_instance_id} ${one.compute_instance_id}`}>
              <td title={one.uuid ?? ""}>{one.profile ?? NO_READING}</td>
              <td>
                <StateMark state={one.state} />
              </td>
              <td class="wide">{one.allocated_to ?? one.reason ?? ""}</td>
              <td class="number" data-label="GiB">
                {gib(one.memory_used)} / {gib(one.memory_total)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Processes({ gpu }: { readonly gpu: Gpu }) {
  const all = [...gpu.processes, ...gpu.mig_devices.flatMap((instance) => instance.processes)];
  if (all.length === 0) return <p class="empty">No process is seen on it.</p>;
  return (
    <div class="scroll">
      <table>
        <caption>Processes</caption>
        <thead>
          <tr>
            <th scope="col">pid</th>
            <th scope="col">name</th>
            <th scope="col">user</th>
            <th scope="col" class="number">
              GiB
            </th>
          </tr>
        </thead>
        <tbody>
          {all.map((process) => (
            <tr key={process.pid}>
              <td data-label="pid">{process.pid}</td>
              <td class="wide" data-label="name">
                {process.name ?? NO_READING}
              </td>
              <td data-label="user">{process.user ?? NO_READING}</td>
              <td class="number" data-label="GiB">
                {gib(process.used_memory)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
