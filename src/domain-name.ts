import { InvalidArgumentError } from './errors.js'
import { describe } from './validate.js'

/**
 * What memory is for (PEP 445): `raw` for anything at any time, `mem` for buffers (its allocator is the default pool),
 * `object` for small blocks, the control blocks of buffers among them.
 */
export type AllocatorDomain = 'raw' | 'mem' | 'object'

/** All of them. */
export const DOMAINS: readonly AllocatorDomain[] = ['raw', 'mem', 'object']

/** A domain's name. */
export function checkDomain(value: unknown, name: string): AllocatorDomain {
  if (DOMAINS.includes(value as AllocatorDomain)) return value as AllocatorDomain
  throw new InvalidArgumentError(`${name} must be one of 'raw', 'mem', 'object', got ${describe(value)}`)
}
