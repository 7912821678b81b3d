/** What a benchmark group is made of. One file per group; `run.ts` measures every contender in a process of its own. */

/** Does the work's operations once, from nothing to nothing. */
export type Body = () => void

/** One way to do a piece of work. */
export interface Contender {
  /** `ours` is judged, a `variant` of ours is shown, a `peer` is what people use today, a `limit` is what physics allow. */
  readonly kind: 'ours' | 'variant' | 'peer' | 'limit'
  /** Loads what it needs (nothing else is loaded into its process) and returns the work. */
  load(): Promise<Body>
}

/** A figure to reach. */
export interface Target {
  /** True for what the design asks of a later version: shown as `not yet` while it is not reached. */
  readonly later?: boolean
  /** In the work's unit: ours must be no more than this. */
  readonly atMost?: number
  /** Ours must be this many times faster (or smaller) than this contender. */
  readonly times?: number
  /** Ours must be no more than this many times of this contender. */
  readonly atMostTimes?: number
  readonly than?: string
}

/** A piece of work that several contenders do. */
export interface Work {
  readonly name: string
  /** What exactly is done, for the reader of the figures. */
  readonly what: string
  /**
   * `time`: nanoseconds an operation. `peak`: by how many MiB the RSS was ever over its start. `later`: by how many it is 2.5 s
   * after the body, in which nobody does anything.
   */
  readonly measure: 'time' | 'peak' | 'later'
  /** Operations in one call of a body. The event loop turns after each call; the turn counts. */
  readonly operations: number
  readonly contenders: Readonly<Record<string, Contender>>
  readonly targets: readonly Target[]
}

/** Works by the name of their group, which is also the name of the file. */
export const groups = ['append', 'strings', 'scratch', 'buffers', 'resident'] as const

/** Loads the works of one group. */
export async function worksOf(group: string): Promise<readonly Work[]> {
  const module = (await import(`./${group}.ts`)) as { works: readonly Work[] }
  return module.works
}
