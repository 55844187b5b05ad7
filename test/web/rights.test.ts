import { expect, test } from "vitest";
import type { Role } from "../../src/web/api/answers.ts";
import { may, mayTouch } from "../../src/web/model/rights.ts";
import { meSchema } from "../../src/wire/service/answers.ts";

test("each role may do what it is needed for and what lesser ones are, in the API's order", () => {
  const roles = meSchema.shape.role.options;
  for (const [rank, role] of roles.entries()) {
    expect(roles.map((needed) => may(role, needed))).toEqual(roles.map((_, needed) => needed <= rank));
  }
});

test("what somebody has sent is for that one and for admins", () => {
  expect(mayTouch({ role: "run", principal: "ann" }, "ann")).toBe(true);
  expect(mayTouch({ role: "run", principal: "bob" }, "ann")).toBe(false);
  expect(mayTouch({ role: "admin", principal: "bob" }, "ann")).toBe(true);
});

test("a role that only a newer daemon has may look and do nothing", () => {
  expect(may("emperor" as Role, "read")).toBe(true);
  expect(may("emperor" as Role, "allocate")).toBe(false);
});
