/**
 * The key to the constructors that only offheap calls. It is never exported from the package.
 *
 * @module
 */

/** Passed as the first argument of a constructor that is not for users. */
export const INTERNAL: unique symbol = Symbol('offheap.internal')
