/** The sweep of every operation in a worker, or in a process of its own. */
import { parentPort } from 'node:worker_threads'
import { sweepAll } from './harness.js'
import { operations } from './operations.js'

const found = await sweepAll(operations)
if (parentPort === null) process.stdout.write(JSON.stringify(found))
else parentPort.postMessage(found)
