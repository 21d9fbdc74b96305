// BullMQ: one queue, no order (groups are not in the free edition), job ids for deduplication.
import { Queue, Worker } from "bullmq";
import { appending, connect, deliveries, mode, runWhenTold } from "./queue.mjs";

const CONCURRENCY = 32; // jobs at a time in each process
const BATCH = 500; // jobs in one addition

if (mode === "load") {
  const queue = new Queue("bench", { connection: connect() });
  const all = deliveries();
  for (let at = 0; at < all.length; at += BATCH) {
    const jobs = all.slice(at, at + BATCH).map(({ id, body }) => ({ name: "event", data: body, opts: { jobId: id } }));
    await queue.addBulk(jobs);
  }
  process.exit(0);
}

const client = connect();
const worker = new Worker("bench", appending(client), {
  connection: connect(),
  concurrency: CONCURRENCY,
  autorun: false,
  removeOnComplete: { count: 100_000 }, // a job that is gone would let its duplicate in
});
await Promise.all([worker.waitUntilReady(), client.ping()]);
runWhenTold(() => worker.run());
