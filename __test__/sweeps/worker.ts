/** The sweep of every operation in a worker. */
import { parentPort } from 'node:worker_threads'
import { sweepAll } from './harness.js'
import { operations } from './operations.js'

parentPort!.postMessage(await sweepAll(operations))
