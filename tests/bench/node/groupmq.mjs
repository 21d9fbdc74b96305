// GroupMQ: one group a team, jobs of a group in the order of their numbers.
import { Queue, Worker } from "groupmq";
import { appending, connect, deliveries, mode, runWhenTold } from "./queue.mjs";

const CONCURRENCY = 32; // jobs at a time in each process, all of different groups
const BATCH = 500; // additions under way at a time

// orderMs is a time. Numbers are put a second apart: the score that GroupMQ makes of it also counts additions, and with
// a millisecond between two of them it would invert once there are more than a thousand.
const START = Date.UTC(2025, 0, 1);
const orderMs = (seq) => START + seq * 1000;

const redis = connect();
const queue = new Queue({ redis, namespace: "bench", jobTimeoutMs: 30_000 });

if (mode === "load") {
  const all = deliveries();
  for (let at = 0; at < all.length; at += BATCH) {
    const adding = all.slice(at, at + BATCH).map(({ team, seq, id, body }) =>
      queue.add({ groupId: team, data: body, jobId: id, orderMs: orderMs(seq) }),
    );
    await Promise.all(adding);
  }
  process.exit(0);
}

const client = connect();
await Promise.all([redis.ping(), client.ping()]);
const worker = new Worker({ queue, concurrency: CONCURRENCY, handler: appending(client) });
runWhenTold(() => worker.run());
