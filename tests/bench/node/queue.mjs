// What both queues' scripts share: arguments, the file of deliveries, a Redis client, and waiting for the start.
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";

export const [mode, url, argument] = process.argv.slice(2);

/** A client as both queues want it; commands of one turn of the event loop leave together. */
export const connect = () => new Redis(url, { maxRetriesPerRequest: null, enableAutoPipelining: true });

/** Every delivery: team, seq, id, and the parsed body. */
export function deliveries() {
  const lines = readFileSync(argument, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => {
    const delivery = JSON.parse(line);
    return { ...delivery, body: JSON.parse(delivery.body) };
  });
}

/** Says that this worker is ready, and calls `run` at a SIGUSR2. */
export function runWhenTold(run) {
  process.on("SIGUSR2", run);
  process.on("SIGTERM", () => process.exit(0));
  console.log("ready");
}

/** The handler of the benchmark: appends the event's number to its team's list. */
export const appending = (client) => (job) => client.rpush(argument + job.data.teamId, job.data.seq);
