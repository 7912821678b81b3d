/**
 * Devices whose memory crashes whoever reads it, of a native library that was built with the feature `test-devices`; no published
 * one is. Nothing of ava's.
 */
import { createRequire } from 'node:module'
import type { Device } from 'offheap'

const require = createRequire(import.meta.url)

// The same instances as the package's own.
const { native } = require('../../dist/native.js') as { native: { testDevice?: (number: number) => number } }
const { deviceInternals } = require('../../dist/device.js') as { deviceInternals: { adopt(id: number): Device } }

/** Whether this library has them. */
export const hasTestDevices = native.testDevice !== undefined

/** A device of which managers can copy memory (0 and 3), view it (1), or neither (2). */
export function testDevice(number: number): Device {
  return deviceInternals.adopt(native.testDevice!(number))
}
