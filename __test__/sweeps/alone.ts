/** The sweep of every operation in a worker, or in a process of its own; an argument names what is put over the failing pool. */
import { parentPort } from 'node:worker_threads'
import { sweepAll } from './harness.js'
import { dresses, operations } from './operations.js'

const dress = parentPort === null ? process.argv[2] : undefined
const found = await sweepAll(operations, dress === undefined ? undefined : dresses[dress])
if (parentPort === null) process.stdout.write(JSON.stringify(found))
else parentPort.postMessage(found)
