/**
 * What a request makes is garbage when it has been answered. Where some of it outlives the collections of what is young, the
 * whole heap must be looked through again and again: that cost more processor time than all else, and no other test saw it.
 */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { RawConnection } from "../../bench/raw-client.ts";
import { eventually, isBuilt, startDaemon } from "./daemon.ts";

const PRELOAD = fileURLToPath(new URL("../fixtures/tell-full-collections.mjs", import.meta.url));
const CONNECTIONS = 16;
const CYCLES = 20_000;

test.skipIf(!isBuilt)(
  `${CYCLES} leases, asked for and given back over ${CONNECTIONS} connections, leave next to nothing that gets old (needs the built program)`,
  { timeout: 120_000 },
  async () => {
    const unlimited = "limits: {address: {requests_per_second: null, stored_mb_per_day: null}}";
    const daemon = await startDaemon({ simulate: "h100x16", preload: PRELOAD, config: unlimited });
    try {
      await eventually(
        () => daemon.call("GET", "/readyz"),
        ({ status }) => status === 200,
      );
      let left = CYCLES;
      const statuses = new Set<number>();
      const work = async () => {
        const connection = new RawConnection(Number(new URL(daemon.url).port), (error) => {
          throw error;
        });
        while (left-- > 0) {
          const granted = await connection.ask("POST", "/gpu/allocate", { service_name: "bench" });
          const { id } = JSON.parse(granted.body.toString());
          const released = await connection.ask("POST", "/gpu/release", { allocation_id: id });
          statuses.add(granted.status).add(released.status);
        }
        connection.end();
      };
      await Promise.all(Array.from({ length: CONNECTIONS }, work));
      expect([...statuses]).toEqual([200]);
      // The start has two.
      expect(daemon.log.filter((line) => line === "full collection").length).toBeLessThanOrEqual(8);
    } finally {
      await daemon.end("SIGTERM");
      daemon.removeFolder();
    }
  },
);
