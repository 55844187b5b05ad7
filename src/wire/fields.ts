import { z } from "zod";

export const instant = z.iso.datetime().meta({ description: "RFC 3339, in UTC" });

export const mib = z.number().nullable().meta({ description: "MiB; null: no reading" });

export const figure = z.number().nullable().meta({ description: "null: no reading" });

export const words = z.string().nullable();

export const numaNodes = z.array(z.int()).nullable();

export const cpuAffinity = words.meta({ example: "0-31,64-95" });

export const idleSince = z.iso.datetime().meta({
  description:
    "The lease has no TTL, and none of its GPUs has been used since then, for allocator.idle_after or longer",
});

export const leaveBy = z.iso.datetime().meta({ description: "The lease ends then if it has not left" });

export const cordonFields = {
  reason: z.string(),
  by: z.string(),
  since: instant,
  drain_by: instant.nullable().meta({ description: "Leases still there then end; null: they end by themselves" }),
};

export const overMemorySince = z.iso.datetime().meta({
  description: "A shared lease that has been seen since then to use more memory than is reserved for it",
});

export const owner = z.string().meta({
  description: "The principal whose it is. For admins and for itself; left out otherwise",
});

export const sentences = z
  .array(z.string())
  .meta({ description: "A sentence each: for people, and no text to be parsed" });
