/** What a tenant may have, and who knows which tenants there are. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { TenantService } from "../../src/controller/api/tenant-service.ts";
import { LABEL } from "../../src/controller/objects/meta.ts";
import { gpuMaximumOf, gpusOfTenant } from "../../src/controller/objects/tenants.ts";
import { condition, look, seen, workload } from "./objects.ts";

async function service() {
  const asked: string[] = [];
  let answer = { status: 200, body: "{}" };
  const server = createServer((req, res) => {
    asked.push(req.url ?? "");
    res.statusCode = answer.status;
    res.end(answer.body);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => void server.close());
  let now = 0;
  const tenants = new TenantService(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, () => now);
  return {
    asked,
    says(status: number, body: object = {}) {
      answer = { status, body: JSON.stringify(body) };
    },
    after(ms: number) {
      now += ms;
    },
    codeOf: (tenant: string) =>
      tenants.demand(tenant).then(
        () => null,
        (error) => error.code,
      ),
  };
}

describe("a service of tenants", () => {
  test("is believed for a minute, of each tenant by itself", async () => {
    const { asked, says, after, codeOf } = await service();
    expect([await codeOf("a/b"), await codeOf("a/b")]).toEqual([null, null]);
    expect(asked).toEqual(["/tenants/a%2Fb"]);
    says(404);
    expect([await codeOf("a/b"), await codeOf("other")]).toEqual([null, "tenant-foreign"]);
    after(60_000);
    expect(await codeOf("a/b")).toBe("tenant-foreign");
  });

  test("lets nobody in who is not active", async () => {
    const { says, codeOf } = await service();
    says(200, { is_active: false });
    expect(await codeOf("a")).toBe("tenant-foreign");
    says(200, { status: "suspended" });
    expect(await codeOf("b")).toBe("tenant-foreign");
    says(200, { status: "active", is_active: true });
    expect(await codeOf("c")).toBeNull();
  });

  test("that cannot be asked lets nobody in, and is asked again", async () => {
    const { says, codeOf } = await service();
    says(500);
    expect(await codeOf("a")).toBe("tenants-unavailable");
    says(200);
    expect(await codeOf("a")).toBeNull();
  });

  test("that says something else than a tenant lets nobody in", async () => {
    const { asked, says, codeOf } = await service();
    // The page of all tenants, to which a name of dots would lead.
    says(200, []);
    expect([await codeOf("a"), asked]).toEqual(["tenants-unavailable", ["/tenants/a"]]);
    says(200);
    expect([await codeOf("."), await codeOf(".."), asked.length]).toEqual(["tenant-foreign", "tenant-foreign", 1]);
  });
});

describe("a maximum of GPUs", () => {
  const of = (uid: string, tenant: string, replicas: number, gpu: string) => {
    const one = workload({ replicas, resources: { cpu: "2", memory: "8Gi", gpu } });
    return { ...one, metadata: { ...one.metadata, uid, name: uid, labels: { [LABEL.tenant]: tenant } } };
  };

  test("is a tenant's own, or that of all who are not named", () => {
    const maxima = new Map([
      ["acme", 8],
      ["*", 2],
    ]);
    expect([gpuMaximumOf(maxima, "acme"), gpuMaximumOf(maxima, "x"), gpuMaximumOf(new Map(), "x")]).toEqual([
      8,
      2,
      null,
    ]);
  });

  test("counts all workloads of the tenant by what they are to have", () => {
    const all = [of("a", "acme", 2, "2"), of("b", "acme", 1, "4"), of("c", "other", 9, "8")];
    expect(gpusOfTenant(all, "acme", "")).toBe(8);
    expect(gpusOfTenant(all, "acme", "b")).toBe(4);
  });

  test("holds whoever has made the object: there are no more replicas than it has room for, and it says so", () => {
    const asked = of("a", "acme", 4, "2");
    const outcome = look(asked, seen([], { tenantGpus: 5 }));
    expect(outcome.wanted?.desired).toBe(2);
    expect(condition(outcome, "ScalingActive")).toMatchObject({ status: "False", reason: "TenantMaximum" });
    expect(look(asked, seen([], { tenantGpus: 8 })).wanted?.desired).toBe(4);
    expect(look(of("a", "acme", 4, "0"), seen([], { tenantGpus: 0 })).wanted?.desired).toBe(4);
  });
});
