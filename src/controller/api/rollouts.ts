/** Which revisions a deployment had, and the way back to one. */
import { type Answer, json } from "../../http/exchange/answers.ts";
import { checker } from "../../http/exchange/checks.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { conditionOf } from "../objects/conditions.ts";
import { ControllerError } from "../objects/errors.ts";
import { earlier, revisionOf } from "../objects/revision.ts";
import { undoSchema } from "./asks.ts";
import { changeable, undoneDraft } from "./drafts.ts";
import { type ApiParts, deploymentNamed } from "./parts.ts";

const readUndo = checker(undoSchema);

export function rolloutEndpoints(parts: ApiParts): readonly Endpoint[] {
  const path = "/admin/v1/deployments/:id/rollout";
  return [
    endpoint(path, "key", { GET: { role: "admin", body: "ignored", answer: (call) => rollout(parts, call) } }),
    endpoint(`${path}/undo`, "key", {
      POST: { role: "admin", body: "optional", answer: (call) => undo(parts, call) },
    }),
    ...["promote", "abort"].map((act) =>
      endpoint(`${path}/${act}`, "key", {
        POST: {
          role: "admin",
          body: "ignored",
          answer(call) {
            deploymentNamed(parts, call, call.id);
            throw new ControllerError("not-built", `${act} is of canaries, which this version does not have; see undo`);
          },
        },
      }),
    ),
  ];
}

function rollout(parts: ApiParts, call: Call): Answer {
  const workload = deploymentNamed(parts, call, call.id);
  const { metadata, spec, status } = workload;
  const current = revisionOf(metadata, spec);
  const progressing = conditionOf(status.conditions, "Progressing");
  const revisions = parts.objects.revisions(workload).toSorted((a, b) => b.number - a.number);
  return json(200, {
    deployment_id: metadata.name,
    status: status.state ?? "pending",
    revision: current,
    replicas: status.desiredReplicas ?? null,
    updated_replicas: status.updatedReplicas ?? 0,
    reason: progressing?.reason ?? null,
    message: progressing?.message ?? null,
    revisions: revisions.map(({ name, number, parts: { modelVersion, engine, restartedAt }, madeAt }) => ({
      number,
      revision: name,
      current: name === current,
      model_version: modelVersion ?? null,
      image: engine?.image ?? null,
      restarted_at: restartedAt,
      made_at: madeAt,
    })),
  });
}

async function undo(parts: ApiParts, call: Call): Promise<Answer> {
  const { to_revision: number = null } = readUndo(call.body ?? {});
  const workload = changeable(deploymentNamed(parts, call, call.id));
  const { metadata, spec } = workload;
  const back = earlier(parts.objects.revisions(workload), revisionOf(metadata, spec), number);
  if (back === null) {
    const which = number === null ? "an earlier revision" : `another revision with the number ${number}`;
    throw new ControllerError("wrong-state", `${metadata.name} has kept no ${which.replace(/^an /, "")}`);
  }
  await parts.objects.put(undoneDraft(workload, back.parts));
  return json(202, {
    success: true,
    message: `it goes back to what it was as revision ${back.number}`,
    data: { deployment_id: metadata.name, revision: back.name, model_version: back.parts.modelVersion ?? null },
  });
}
