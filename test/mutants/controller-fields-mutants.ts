/** Bugs of what the controller reads of its surroundings: environment, use, groups of pods, secrets. */
import { type Mutant, planted } from "./mutant.ts";

const ENVIRONMENT = "test/controller/settings/seed-environment.test.ts";
const GROUPS = "test/controller/groups.test.ts";
const SCALING = "test/controller/scaling.test.ts";
const MEASURED = "test/controller/measured.test.ts";
const SECRETS = "test/controller/secrets.test.ts";
const HOST = "test/controller/host.test.ts";
const AVOIDANCE = "test/controller/avoidance.test.ts";
const TENANTS = "test/controller/tenants.test.ts";
const MODELS = "test/controller/models.test.ts";
const MANIFESTS = "test/controller/manifests.test.ts";
const USAGE = "test/controller/pod-usage.test.ts";

export const CONTROLLER_FIELDS_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/objects/engine-config.ts",
    ["test/controller/engine-config.test.ts"],
    [
      {
        name: "An engine may be told to take seven times the memory of its GPU",
        find: "part > 0 && part <= 1",
        replace: "part > 0",
      },
      {
        name: "An engine may be told to serve where nobody asks",
        find: "config[name] !== undefined && config[name] !== null",
        replace: "config[name] === undefined && config[name] !== undefined",
      },
    ],
  ),
  ...planted(
    "src/controller/api/views.ts",
    ["test/controller/api.test.ts"],
    [
      {
        name: "A deployment that the backend refuses says only that it is not ready",
        find: 'reason === "BackendRefused"',
        replace: 'reason === "Backend"',
      },
    ],
  ),
  ...planted(
    "src/controller/api/deployments.ts",
    ["test/controller/api.test.ts"],
    [
      {
        name: "To delete a deployment twice in its first minute is a mistake",
        find: "parts.history.noteDeployment(name,",
        replace: "parts.history.noteDeployment(name.toUpperCase(),",
      },
    ],
  ),
  ...planted(
    "src/controller/api/deployments.ts",
    ["test/controller/hub-tokens.test.ts"],
    [
      {
        name: "A hub token in vLLM's settings or the environment stays in the object",
        find: "const token = ask.huggingface_token ?? hubTokensIn(engine)[0]?.token;",
        replace: "const token = ask.huggingface_token;",
      },
      {
        name: "A change puts a hub token into the object",
        find: "if (places.length === 0) return;",
        replace: "if (places.length < 9) return;",
      },
    ],
  ),
  ...planted(
    "src/controller/settings/seed-environment.ts",
    [ENVIRONMENT],
    [
      {
        name: "A token goes to a server whose authority nobody names",
        find: 'if (!allowInsecure && (given === "" || ',
        replace: "if (!allowInsecure && (",
      },
      {
        name: "A volume hides what a pod has at that path",
        find: '!mountPath.startsWith("/") || isTaken',
        replace: '!mountPath.startsWith("/")',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/group.ts",
    [GROUPS],
    [
      {
        name: "A group serves before all of its pods do",
        find: 'if (!isWhole || has("starting")) return "starting";',
        replace: 'if (has("starting")) return "starting";',
      },
      {
        name: "A group surges and takes one down at once",
        find: "{ maxSurge: 1, maxUnavailable: 0 }",
        replace: "{ maxSurge: 1, maxUnavailable: 1 }",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/plan.ts",
    [GROUPS],
    [
      {
        name: "A replica of several nodes is made where nobody runs it",
        find: 'if (groups === "there") return span;',
        replace: "if (groups.length > 0) return span;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/render.ts",
    [GROUPS],
    [
      {
        name: "Workers of a group are called as if they served",
        find: "...(isOfGroups ? LEADERS : {})",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/fleet.ts",
    [GROUPS],
    [
      {
        name: "Parts of a group are not equal",
        find: ".filter((span) => gpus % span === 0)",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/scaling.ts",
    [SCALING],
    [
      {
        name: "Who names no metric is scaled down from just below the upper threshold",
        find: " || (average >= below && average <= target)",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/measured.ts",
    [MEASURED],
    [
      {
        name: "Figures are written anew at each look",
        find: "isSame ? lastUpdated : new Date(now).toISOString()",
        replace: "new Date(now).toISOString()",
      },
      {
        name: "A figure that nobody says is 0",
        find: "said(name).length === 0 ? null : said(name)",
        replace: "said(name)",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/pod-usage.ts",
    [USAGE],
    [
      {
        name: "Nanocores are taken for cores",
        find: 'Number(amount) / { "": 1, m: 1e3, u: 1e6, n: 1e9 }',
        replace: 'Number(amount) / { "": 1, m: 1e3, u: 1e6, n: 1 }',
      },
    ],
  ),
  ...planted(
    "src/controller/objects/secrets.ts",
    [SECRETS],
    [
      {
        name: "Secrets within a setting are shown",
        find: "isSecret ? LEFT_OUT : shown(one, secret)",
        replace: "isSecret ? LEFT_OUT : one",
      },
      {
        name: "What was left out is written over the secret",
        find: "if (given === LEFT_OUT && old !== undefined) return old;",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/host/backend.ts",
    [HOST],
    [
      {
        name: "A hub token outlives its deployment",
        find: "if (secrets !== null) rmSync(",
        replace: 'if (secrets === "") rmSync(',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/avoidance.ts",
    [AVOIDANCE],
    [
      {
        name: "A node is avoided for ever",
        find: "!(Number(until) * 1_000 > now)",
        replace: "!(Number(until) * 1_000 > 0)",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/reconcile.ts",
    [TENANTS],
    [
      {
        name: "Who makes an object by kubectl has no maximum of GPUs",
        find: "desired: Math.floor(most / gpus),",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/controller/api/tenant-service.ts",
    [TENANTS],
    [
      {
        name: "A tenant service that is away lets everybody in",
        find: "if (!answer.ok) {",
        replace: "if (answer.status === 599) {",
      },
      {
        name: "What was said of a tenant holds for ever",
        find: "this.#now() - known.at < CACHED_MS",
        replace: "known.at < CACHED_MS",
      },
      {
        name: "Any answer of a tenant service is one about a tenant",
        find: 'if (!isObject(body)) throw away("an answer that is no tenant");',
        replace: "if (!isObject(body)) return true;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/manifests.ts",
    [MANIFESTS],
    [
      {
        name: "A class that may never lose its place loses it",
        find: "lesser.every((other) => qos[other].isPreemptible)",
        replace: "lesser.some((other) => qos[other].isPreemptible)",
      },
    ],
  ),
  ...planted(
    "src/controller/objects/model-rules.ts",
    [MODELS],
    [
      {
        name: "A model without tenants is everybody's, though its access says nothing of the public",
        find: "access === undefined || access.public === true || access.tenants?.includes(tenant) === true",
        replace: "access === undefined || access.public === true || access.tenants?.includes(tenant) !== false",
      },
      {
        name: "A signature over other files is taken",
        find: '? "true" : "false";',
        replace: '? "true" : "true";',
      },
      {
        name: "What is signed has no sizes",
        find: "files.map(({ path, size, checksum }) => ({ path, size, checksum }));",
        replace: "files.map(({ path, checksum }) => ({ path, checksum }));",
      },
      {
        name: "Whoever states engine.model uses models of other tenants",
        find: "if (model === null) return null;",
        replace: "if (model === null || spec.engine?.model !== undefined) return null;",
      },
      {
        name: "The newest of two models of one version counts",
        find: "ageOf(a) < ageOf(b) ? -1 : 1",
        replace: "ageOf(a) > ageOf(b) ? -1 : 1",
      },
    ],
  ),
  ...planted(
    "src/controller/reconcile/model-statuses.ts",
    [MODELS],
    [
      {
        name: "The status of a model is written at each look",
        find: "if (isDeepStrictEqual(status, model.status)) continue;",
        replace: "if (status === model.status) continue;",
      },
      {
        name: "A status of a model that is refused is asked for at each look",
        find: "if (rest !== undefined && now < rest.until) continue;",
        replace: "if (rest !== undefined && now < 0) continue;",
      },
    ],
  ),
  ...planted(
    "src/controller/api/objects.ts",
    ["test/controller/api.test.ts"],
    [
      {
        name: "A key that is bound to a tenant sees the models of others",
        find: 'return "spec" in read && tenants.some((tenant) => mayUse(read.spec, tenant));',
        replace: 'return "spec" in read;',
      },
    ],
  ),
];
