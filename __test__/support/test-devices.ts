/**
 * Devices whose memory crashes whoever reads it, of a native library that was built with the feature `test-devices`; no published
 * one is. Nothing of ava's.
 */
import { createRequire } from 'node:module'
import type { Device, MemoryManager } from 'offheap'

const require = createRequire(import.meta.url)

// The same instances as the package's own.
const { native } = require('../../dist/native.js') as { native: { testDevice?: (number: number) => number } }
/** @internal */
export const { deviceInternals } = require('../../dist/device.js') as {
  deviceInternals: { adopt(id: number): Device; setClass(typeName: string, make: (seed: object) => Device): void }
}
/** @internal */
export const { managerInternals } = require('../../dist/memory-manager.js') as {
  managerInternals: { setClass(typeName: string, make: (id: number) => MemoryManager): void }
}
/** The key to the constructors. */
export const { INTERNAL } = require('../../dist/token.js') as { INTERNAL: symbol }

/** Whether this library has them. */
export const hasTestDevices = native.testDevice !== undefined

/** A device of which managers can copy memory (0 and 3), view it (1), or neither (2). */
export function testDevice(number: number): Device {
  return deviceInternals.adopt(native.testDevice!(number))
}
